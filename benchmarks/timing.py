"""Contestants side by side in one process: run in turn, as a table or as JSON.

Each round runs every contestant once (A B A B), so that a machine that others use slows all of
them. What stands beside a figure: median and range of the rounds, the ratio to the fastest peer
("x best peer", above 1 is faster than it), and the share of the machine's own peak, measured in the
same process, where operations could be counted.
"""

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    *("tacoskip", "torch", "torchaudio", "numpy", "librosa", "coqui-tts", "speechbrain"),
    *("pocketsphinx", "onnxruntime"),
)
# Elements on a side of the matrices, and of the array that is copied, of the measured peak.
MATRIX, COPIED = 1024, 1 << 26
ABSENT: dict[str, str] = {}


def processor_seconds() -> float:
    """Seconds of work of this process, all threads, and of the processes that it waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


CLOCKS = {"wall": time.perf_counter, "cpu": processor_seconds}


@dataclass
class Contestant:
    """Who runs, and what else is known of it. peer: others wrote it. work: units a run (0: the
    race's). figures: what stands beside the time; `run` may return more of them.
    """

    name: str
    run: Callable[[], Any]
    peer: bool = False
    work: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


@dataclass
class Race:
    """One claim. work: `unit`s that a run works off; operations: floating point operations of a
    run, 0 where none were counted; peak: "fp32" or "bf16", what they are held to.
    """

    claim: str
    unit: str
    work: float
    contestants: list[Contestant]
    operations: float = 0.0
    peak: str = "fp32"

    def run(self, rounds: int, clock: Callable[[], float] = time.perf_counter) -> None:
        """Run everybody once unseen, then `rounds` times in turn."""
        for one in self.contestants:
            one.figures |= _figures(one.run())
        for _ in range(rounds):
            for one in self.contestants:
                gc.collect()
                began = clock()
                one.run()
                one.seconds.append(clock() - began)

    def rows(self, peaks: dict[str, float]) -> list[dict[str, Any]]:
        """What was measured, a row a contestant."""
        peers = [statistics.median(one.seconds) for one in self.contestants if one.peer]
        rows = []
        for one in self.contestants:
            median = statistics.median(one.seconds)
            rows.append(
                {
                    "name": one.name,
                    "peer": one.peer,
                    "seconds": median,
                    "fastest": min(one.seconds),
                    "slowest": max(one.seconds),
                    "rate": (one.work or self.work) / median,
                    "times_best_peer": min(peers) / median if peers else None,
                    "share_of_peak": self.operations / median / peaks[self.peak]
                    if self.operations
                    else None,
                    "figures": one.figures,
                }
            )
        return rows


def peaks(
    clock: Callable[[], float], matrix: int = MATRIX, copied: int = COPIED
) -> dict[str, float]:
    """Operations a second in fp32 and bf16, and bytes a second of a copy.

    Of a matrix product and of a convolution over three frames, the faster: where torch multiplies
    matrices by MKL and convolves by oneDNN, they may be a factor of two apart.
    """
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.randn(matrix, matrix).to(dtype)
        kernels = torch.randn(matrix, matrix, 3).to(dtype)
        product = 2 * matrix**3 / _best_of(lambda a=a: a @ a, clock)  # type: ignore[misc]
        convolve = partial(torch.nn.functional.conv1d, a[None], kernels)
        convolution = 6 * matrix**2 * (matrix - 2) / _best_of(convolve, clock)
        found |= {name: max(product, convolution), f"{name}_product": product}
    source = torch.zeros(copied)
    target = torch.empty_like(source)
    found["copy"] = 2 * 4 * copied / _best_of(lambda: target.copy_(source), clock)
    return found


def operations(run: Callable[[], object]) -> float:
    """Count the floating point operations of a run: matrix products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def machine() -> dict[str, Any]:
    """What the figures were measured on; `load` is that of the last minute, before they were."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }


def parser(doc: str | None, rounds: int = 5) -> argparse.ArgumentParser:
    """Return the options that all scripts share."""
    made = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    made.add_argument("--rounds", type=int, default=rounds, help="how often each one runs")
    made.add_argument("--quick", action="store_true", help="tiny sizes: does the script work?")
    made.add_argument("--json", action="store_true", help="one JSON object on standard output")
    made.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: processor time of all threads, for one thread on a machine that others use",
    )
    return made


def main(options: argparse.Namespace, races: Iterator[Race]) -> int:
    """Run races one after another and print them; they are made as they are needed."""
    warnings.simplefilter("ignore")  # the peers'
    clock = CLOCKS[options.clock]
    found = peaks(clock, 256, 1 << 16) if options.quick else peaks(clock)
    about, results = machine() | {"clock": options.clock}, []
    if not options.json:
        _print_machine(about, found)
    for race in races:
        race.run(1 if options.quick else options.rounds, clock)
        rows = race.rows(found)
        results.append({"claim": race.claim, "unit": race.unit, "rows": rows})
        if not options.json:
            _print_race(race, rows)
    if options.json:
        result = {"machine": about, "peaks": found, "races": results, "absent": ABSENT}
        print(json.dumps(result))
    for name, line in ABSENT.items():
        print(f"not measured: {name} ({line})", file=sys.stderr)
    return 0


def _print_machine(about: dict[str, Any], found: dict[str, float]) -> None:
    print(
        f"{about['processor']}, {about['cores']} cores, {about['threads']} threads, "
        f"load {about['load']}, {about['clock']} clock, {about['date']}, Python {about['python']}, "
        + ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    )
    print(
        f"peak: {found['fp32'] / 1e9:.0f} GFLOP/s fp32 (matrix product "
        f"{found['fp32_product'] / 1e9:.0f}), {found['bf16'] / 1e9:.0f} GFLOP/s bf16, "
        f"{found['copy'] / 1e9:.1f} GB/s copied"
    )


def _print_race(race: Race, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    head = ["", "ms", "range", f"{race.unit}/s", "x best peer", "of peak", *names]
    print(f"\n{race.claim}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        times, share = row["times_best_peer"], row["share_of_peak"]
        cells = [
            row["name"],
            f"{1000 * row['seconds']:.4g}",
            f"{1000 * row['fastest']:.4g} to {1000 * row['slowest']:.4g}",
            f"{row['rate']:,.4g}" if row["rate"] < 1000 else f"{row['rate']:,.0f}",
            "" if times is None else f"{times:.2f}",
            "" if share is None else f"{100 * share:.0f} %",
            *(f"{row['figures'][name]:.4g}" if name in row["figures"] else "" for name in names),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def _figures(result: object) -> dict[str, float]:
    return result if isinstance(result, dict) else {}


def _best_of(run: Callable[[], object], clock: Callable[[], float], times: int = 12) -> float:
    found = []
    for _ in range(times):
        began = clock()
        run()
        found.append(clock() - began)
    return min(found)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = info.read_text().splitlines() if info.is_file() else []
    named = (line.split(":", 1)[1].strip() for line in names if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
