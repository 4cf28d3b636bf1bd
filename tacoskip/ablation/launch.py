"""Where the runs of an ablation run: processes of this machine, or a Ray cluster.

A launcher takes run folders that hold a request.json and yields (folder, error) as each ends, error
"" for one that is done; between, it yields (None, "") about once a second, so that its caller can
look around. Every run is the same worker process with the same request, so results do not depend on
the launcher.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tacoskip.ablation.worker import RESULT

Ended = tuple[Path | None, str]

LOG = "log.txt"
TICK_SECONDS = 1.0
# Times that a run starts again elsewhere because its node is gone, and what a run on a cluster gets
# to save itself when all is interrupted.
RETRIES, PARTING_SECONDS = 5, 60.0


def launch(launcher: str, runs: list[Path], jobs: int, threads: int) -> Iterator[Ended]:
    """Run all, at most `jobs` at once (0: as many as there are GPUs, or cores for `threads` each).

    Raises ModuleNotFoundError when Ray is asked for and not installed.
    """
    if launcher == "ray":
        return _ray(runs, jobs, threads)
    return _local(runs, jobs or _room(threads), threads)


def _room(threads: int) -> int:
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // max(1, threads))


def _start(run: Path, threads: int, gpu: int | None = None) -> "subprocess.Popen[bytes]":
    own = {"OMP_NUM_THREADS": str(max(1, threads))}
    if gpu is not None:
        own["CUDA_VISIBLE_DEVICES"] = str(gpu)
    with (run / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tacoskip.ablation.worker", str(run)],
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the ablation alone, which hands it on once
        )


def _outcome(run: Path, code: int) -> str:
    """Return why a worker failed, "" when it did not."""
    if code == 0 and (run / RESULT).is_file():
        return ""
    lines = (run / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if code < 0:
        return f"ended by {signal.Signals(-code).name}" + (
            ", perhaps out of memory" if code == -signal.SIGKILL else ""
        )
    return errors[-1] if errors else f"ended with code {code}, see {LOG} in its folder"


def _local(runs: list[Path], jobs: int, threads: int) -> Iterator[Ended]:
    waiting, gpus = list(reversed(runs)), torch.cuda.device_count()
    slots: dict[int, tuple[Path, subprocess.Popen[bytes]]] = {}
    try:
        while waiting or slots:
            for slot in range(jobs):
                if slot not in slots and waiting:
                    run = waiting.pop()
                    slots[slot] = run, _start(run, threads, slot % gpus if gpus else None)
            time.sleep(TICK_SECONDS)
            for slot, (run, process) in list(slots.items()):
                code = process.poll()
                if code is not None:
                    del slots[slot]
                    yield run, _outcome(run, code)
            yield None, ""
    finally:  # interrupted: each saves what it has, and goes on from there another time
        for _, process in slots.values():
            process.send_signal(signal.SIGINT)
        for _, process in slots.values():
            process.wait()


def _ray(runs: list[Path], jobs: int, threads: int) -> Iterator[Ended]:
    """Spread over a Ray cluster that sees the same file system; RAY_ADDRESS names one, else one is
    started here. A run whose node dies goes on from its last checkpoint on another.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "launcher=ray needs the ray extra: pip install 'tacoskip[ray]'"
        ) from None
    ray.init(ignore_reinit_error=True, log_to_driver=False, configure_logging=False)
    gpus = 1 if ray.cluster_resources().get("GPU") else 0

    @ray.remote(num_cpus=max(1, threads), num_gpus=gpus, max_retries=RETRIES)
    def remote(run: str, folder: str) -> str:
        os.chdir(folder)  # paths in settings are relative to where the ablation was started
        process = _start(Path(run), threads)
        try:
            return _outcome(Path(run), process.wait())
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise

    waiting = [run.resolve() for run in reversed(runs)]
    active: dict[Any, Path] = {}
    try:
        while waiting or active:
            while waiting and (not jobs or len(active) < jobs):
                run = waiting.pop()
                active[remote.remote(str(run), os.getcwd())] = run
            ended, _ = ray.wait(list(active), timeout=TICK_SECONDS)
            for one in ended:
                run = active.pop(one)
                try:
                    error = ray.get(one)
                except ray.exceptions.RayError as failure:
                    error = " ".join(str(failure).split())[:300]
                yield run, error
            yield None, ""
    finally:
        for one in active:
            ray.cancel(one)
        if active:
            ray.wait(list(active), num_returns=len(active), timeout=PARTING_SECONDS)
        ray.shutdown()
