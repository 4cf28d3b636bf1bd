"""Contestants side by side in one process: run in turn, printed as a table.

Each round runs every contestant once (A B A B), so that other work on the machine slows all of
them. Beside a time stand the range over the rounds, the ratio to the fastest peer ("x best peer",
above 1: faster than the peer), and, where operations were counted, the share of the machine's peak,
which is measured in the same process.
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
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("tacoskip", "torch", "torchaudio", "librosa", "coqui-tts")
# Peers that cannot be imported, and why.
ABSENT: dict[str, str] = {}
Clock = Callable[[], float]
Options = argparse.Namespace


def cpu_seconds() -> float:
    """CPU time of this process, all threads, and of child processes that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": cpu_seconds}


@dataclass
class Contestant:
    """peer: somebody else's implementation. figures: printed beside the time; `run` may return
    more of them.
    """

    name: str
    run: Callable[[], Any]
    peer: bool = False
    figures: dict[str, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


@dataclass
class Comparison:
    """One table. work: how many `unit`s a run processes; operations: floating point operations of a
    run, 0 where none were counted; peak: "fp32" or "bf16", which peak they are compared with.
    """

    title: str
    unit: str
    work: float
    contestants: list[Contestant]
    operations: float = 0.0
    peak: str = "fp32"

    def run(self, rounds: int, clock: Clock = time.perf_counter) -> None:
        """Run each contestant once to warm up, then `rounds` times in turn."""
        for one in self.contestants:
            figures = one.run()
            one.figures |= figures if isinstance(figures, dict) else {}
        for _ in range(rounds):
            for one in self.contestants:
                gc.collect()
                start = clock()
                one.run()
                one.seconds.append(clock() - start)

    def rows(self, peaks: dict[str, float]) -> list[dict[str, Any]]:
        """The measurements, a row a contestant."""
        peers = [statistics.median(one.seconds) for one in self.contestants if one.peer]
        rows = []
        for one in self.contestants:
            median = statistics.median(one.seconds)
            row = {
                "name": one.name,
                "peer": one.peer,
                "seconds": median,
                "fastest": min(one.seconds),
                "slowest": max(one.seconds),
                "rate": self.work / median,
                "times_best_peer": min(peers) / median if peers else None,
                "share_of_peak": self.operations / median / peaks[self.peak] or None,
                "figures": one.figures,
            }
            rows.append(row)
        return rows


def measure_peaks(clock: Clock, size: int = 1024) -> dict[str, float]:
    """Operations a second in fp32 and bf16: the faster of a matrix product and a convolution over
    three frames.
    """
    peaks = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, weight = torch.randn(size, size).to(dtype), torch.randn(size, size, 3).to(dtype)
        convolve = partial(torch.nn.functional.conv1d, a[None], weight)
        product = 2 * size**3 / _shortest(partial(torch.matmul, a, a), clock)
        convolution = 6 * size**2 * (size - 2) / _shortest(convolve, clock)
        peaks[name] = max(product, convolution)
    return peaks


def _shortest(run: Callable[[], object], clock: Clock, times: int = 12) -> float:
    seconds = []
    for _ in range(times):
        start = clock()
        run()
        seconds.append(clock() - start)
    return min(seconds)


def operations(run: Callable[[], object]) -> float:
    """Count the floating point operations of a run: matrix products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def machine(clock: str, peaks: dict[str, float]) -> str:
    """Describe what is measured on: one line, with the load of the minute before."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    versions = {one.name: one.version for one in distributions() if one.name in PACKAGES}
    parts = [
        next(names, platform.processor() or platform.machine()),
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {clock} clock",
        f"load {os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "",
        f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}",
        *(f"{name} {number}" for name, number in versions.items()),
        *(f"peak {peak / 1e9:.0f} GFLOP/s {name}" for name, peak in peaks.items()),
    ]
    return ", ".join(part for part in parts if part)


def print_table(rows: list[dict[str, Any]], title: str = "") -> None:
    """Print rows as a Markdown table; a column for each key of any row."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    print(f"\n{title}\n" if title else "")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for row in rows:
        values = (row.get(name) for name in names)
        cells = (
            "" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in values
        )
        print(f"| {' | '.join(cells)} |", flush=True)


def percent(share: float | None) -> str | None:
    """Format a share as a whole percentage."""
    return None if share is None else f"{100 * share:.0f} %"


def parser(doc: str | None, rounds: int = 5, **options: str) -> argparse.ArgumentParser:
    """Return the options that all scripts share, and those of one script with their defaults."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="runs of each contestant")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does the script work?")
    parser.add_argument("--wavs", type=Path, help="a folder of recordings, where speech is needed")
    parser.add_argument("--save", type=Path, help="append a line of JSON for each comparison")
    clock = "cpu: CPU time of all threads, for one thread on a machine that others use"
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help=clock)
    for name, default in options.items():
        parser.add_argument(f"--{name}", default=default)
    return parser


def start(options: Options) -> tuple[Clock, dict[str, float], str]:
    """Return the clock, the peaks and a line about the machine, which is printed."""
    clock = CLOCKS[options.clock]
    peaks = measure_peaks(clock, 256 if options.quick else 1024)
    about = machine(options.clock, peaks)
    print(about)
    return clock, peaks, about


def main(
    doc: str | None,
    comparisons: Callable[[Options], Iterator[Comparison]],
    rounds: int = 5,
    arguments: list[str] | None = None,
    **options: str,
) -> int:
    """Run a script's comparisons one after another and print them; each is built when it is due."""
    warnings.simplefilter("ignore")  # the peers'
    chosen = parser(doc, rounds, **options).parse_args(arguments)
    clock, peaks, about = start(chosen)
    for comparison in comparisons(chosen):
        comparison.run(1 if chosen.quick else chosen.rounds, clock)
        rows = comparison.rows(peaks)
        print_table([_cells(row, comparison.unit) for row in rows], comparison.title)
        if chosen.save:
            chosen.save.parent.mkdir(parents=True, exist_ok=True)
            with chosen.save.open("a", encoding="utf-8") as file:
                result = {"machine": about, "title": comparison.title, "rows": rows}
                file.write(json.dumps(result) + "\n")
    for name, line in ABSENT.items():
        print(f"not measured: {name} ({line})", file=sys.stderr)
    return 0


def _cells(row: dict[str, Any], unit: str) -> dict[str, Any]:
    times = row["times_best_peer"]
    return {
        "": row["name"],
        "ms": 1000 * row["seconds"],
        "range": f"{1000 * row['fastest']:.4g} to {1000 * row['slowest']:.4g}",
        f"{unit}/s": f"{row['rate']:,.4g}" if row["rate"] < 1000 else f"{row['rate']:,.0f}",
        "x best peer": None if times is None else f"{times:.2f}",
        "of peak": percent(row["share_of_peak"]),
        **row["figures"],
    }
