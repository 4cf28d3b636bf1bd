"""Where the runs of an ablation are executed: this machine, a Ray cluster, or Slurm.

A launcher takes run folders that hold a request.json and yields (folder, error) as each run ends,
with the error "" for one that is done. In between it yields (None, "") about once a second. Every
run is the same worker process with the same request, so results do not depend on the launcher.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from types import FrameType
from typing import Any

import torch

from tacoskip.ablation.plan import RESULT
from tacoskip.ablation.worker import REQUEST

Log = Callable[[str], None]
Ended = tuple[Path | None, str]

LOG = "log.txt"
POLL_SECONDS = 1.0
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
SAVING = "interrupted: saving the runs in progress"
# Times that a cluster starts a run again after its machine failed, and the time that it gives a run
# to save itself.
RETRIES, SAVE_SECONDS = 5, 60.0
# Packages that launchers need; tacoskip's extras have the launchers' names.
PACKAGES = {"ray": "ray", "slurm": "submitit"}
# submitit's executor, and the time limit of a job unless SBATCH_TIMELIMIT is set. A job that needs
# longer is queued again.
SLURM_EXECUTOR, SLURM_MINUTES = "slurm", 24 * 60


def check_launcher(launcher: str) -> None:
    """Raise ValueError where the launcher's package or Slurm itself is not installed."""
    package = PACKAGES.get(launcher)
    if package and find_spec(package) is None:
        raise ValueError(
            f"launcher={launcher} needs {package}, which is not installed: "
            f"install tacoskip[{launcher}]"
        )
    if launcher == "slurm" and SLURM_EXECUTOR == "slurm" and which("sbatch") is None:
        raise ValueError("launcher=slurm needs a machine that has sbatch, got one without it")


def launch(
    launcher: str, runs: list[Path], jobs: int, threads: int, log: Log
) -> Generator[Ended, None, None]:
    """Execute all runs, at most `jobs` at a time (0: as many as there is room for).

    SIGINT, SIGTERM and SIGHUP end it with KeyboardInterrupt after the runs in progress have been
    saved. Raises ValueError when a cluster cannot be reached.
    """
    check_launcher(launcher)
    execute = {"local": _local, "ray": _ray, "slurm": _slurm}[launcher]
    with _signals_interrupt():
        yield from execute(runs, jobs, threads, log)


def run_worker(
    run: Path,
    threads: int,
    folder: str,
    environment: dict[str, str],
    on_start: Callable[["subprocess.Popen[bytes]"], None] = lambda worker: None,
) -> str:
    """Execute one run on a machine of a cluster and wait for it; returns why it failed, or "".

    folder: the working folder, which paths in settings are relative to. environment: variables of
    the machine that started the ablation. on_start: receives the worker.
    """
    if not (run / REQUEST).is_file():
        return f"machine {socket.gethostname()} does not see {run}: expected a shared folder"
    process = _start(run, threads, environment, folder)
    on_start(process)
    try:
        while process.poll() is None:  # Ray interrupts Python code, not a wait
            time.sleep(POLL_SECONDS / 2)
    finally:
        process.terminate()  # interrupted: the worker saves the run and ends
        process.wait()
    return _error(run, process.returncode)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Turn SIGNALS into KeyboardInterrupt(number); ignored ones stay ignored, as nohup asks."""
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    handlers = {k: handler for k, handler in handlers.items() if handler != signal.SIG_IGN}
    for number in handlers:
        signal.signal(number, interrupt)
    try:
        yield
    except KeyboardInterrupt:  # Ray raises another one in place of ours
        raise KeyboardInterrupt(*received[:1]) from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _start(
    run: Path, threads: int, environment: dict[str, str], folder: str = ""
) -> "subprocess.Popen[bytes]":
    with (run / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tacoskip.ablation.worker", str(run)],
            env=os.environ | environment | {"OMP_NUM_THREADS": str(max(1, threads))},
            cwd=folder or None,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the ablation, which passes it on once
        )


def _environment() -> dict[str, str]:
    """Return the variables that a worker on another machine needs."""
    names = [name for name in os.environ if name.startswith("TACOSKIP_") or name == "PYTHONPATH"]
    return {name: os.environ[name] for name in names}


def _error(run: Path, code: int) -> str:
    """Return why a worker failed, or ""."""
    if code == 0 and (run / RESULT).is_file():
        return ""
    lines = (run / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if code < 0:
        memory = ", perhaps out of memory" if code == -signal.SIGKILL else ""
        return f"ended by {signal.Signals(-code).name}{memory}"
    return errors[-1] if errors else f"ended with code {code}, see {LOG} in its folder"


def _local(runs: list[Path], jobs: int, threads: int, log: Log) -> Iterator[Ended]:
    gpus = torch.cuda.device_count()
    waiting, slots = list(reversed(runs)), jobs or gpus or max(1, _cores() // max(1, threads))
    running: dict[int, tuple[Path, subprocess.Popen[bytes]]] = {}
    try:
        while waiting or running:
            for slot in range(slots):
                if slot not in running and waiting:
                    run = waiting.pop()
                    gpu = {"CUDA_VISIBLE_DEVICES": str(slot % gpus)} if gpus else {}
                    running[slot] = run, _start(run, threads, gpu)
            time.sleep(POLL_SECONDS)
            for slot, (run, process) in list(running.items()):
                if process.poll() is not None:
                    del running[slot]
                    yield run, _error(run, process.returncode)
            yield None, ""
    finally:
        if running:
            log(SAVING)
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.wait()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ray(runs: list[Path], jobs: int, threads: int, log: Log) -> Iterator[Ended]:
    """Execute on the Ray cluster at RAY_ADDRESS, else on one that is started here.

    All machines must see the runs' folder. Ray starts a run again on another machine when its own
    fails; the run resumes from its last checkpoint.
    """
    import ray

    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    address = os.environ.get("RAY_ADDRESS", "this machine")
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, configure_logging=False)
    except (RuntimeError, ValueError, ConnectionError, ray.exceptions.RayError) as failure:
        raise ValueError(
            f"no Ray cluster at RAY_ADDRESS={address} accepts this machine: {_last_line(failure)} "
            "(expected HOST:PORT of `ray start --head`, and RAY_AUTH_MODE=token if it has a token)"
        ) from None
    for number, handler in handlers.items():  # Ray replaces them
        signal.signal(number, handler)
    resources: dict[str, float] = ray.cluster_resources()
    log(
        f"Ray at {address}: {resources.get('CPU', 0):.0f} cores, {resources.get('GPU', 0):.0f} GPUs"
    )
    task: Any = ray.remote(
        num_cpus=max(1, threads), num_gpus=int("GPU" in resources), max_retries=RETRIES
    )(run_worker)
    waiting = [run.resolve() for run in reversed(runs)]
    running: dict[Any, Path] = {}
    try:
        while waiting or running:
            while waiting and (not jobs or len(running) < jobs):
                run = waiting.pop()
                running[task.remote(run, threads, os.getcwd(), _environment())] = run
            for ended in ray.wait(list(running), timeout=POLL_SECONDS)[0]:
                try:
                    error = ray.get(ended)
                except ray.exceptions.RayError as failure:
                    error = _last_line(failure)
                yield running.pop(ended), error
            yield None, ""
    finally:
        if running:
            log(SAVING)
            for each in running:
                ray.cancel(each)
            ray.wait(list(running), num_returns=len(running), timeout=SAVE_SECONDS)
        ray.shutdown()


def _last_line(error: BaseException) -> str:
    """Return the last line of a cluster's error, without colours."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[-1].strip()[:300] if lines else type(error).__name__


class _SlurmJob:
    """One run as a Slurm job; submitit queues it again when it is preempted or out of time."""

    def __init__(self, threads: int, folder: str, environment: dict[str, str]) -> None:
        self.arguments = threads, folder, environment
        self.workers: list[subprocess.Popen[bytes]] = []

    def __call__(self, run: Path) -> str:
        return run_worker(run, *self.arguments, self.workers.append)

    def checkpoint(self, run: Path) -> Any:
        """Save the run; called by submitit before the job is queued again."""
        from submitit.helpers import DelayedSubmission

        for worker in self.workers:
            worker.terminate()
            worker.wait()
        return DelayedSubmission(_SlurmJob(*self.arguments), run)


def _slurm(runs: list[Path], jobs: int, threads: int, log: Log) -> Iterator[Ended]:
    """Submit the runs as a job array.

    SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT, SBATCH_GPUS_PER_NODE and the other variables
    of sbatch apply.
    """
    import submitit

    if not runs:
        return
    folder = Path(os.path.commonpath([run.resolve().parent for run in runs])) / "slurm"
    executor = submitit.AutoExecutor(folder, SLURM_EXECUTOR, slurm_max_num_timeout=RETRIES)
    executor.update_parameters(
        name="tacoskip",
        timeout_min=SLURM_MINUTES,
        cpus_per_task=max(1, threads),
        slurm_array_parallelism=jobs or len(runs),
    )
    task = _SlurmJob(threads, os.getcwd(), _environment())
    submitted = executor.map_array(task, [run.resolve() for run in runs])
    running = dict(zip(submitted, runs, strict=True))
    log(f"Slurm: submitted {len(runs)} jobs; their logs are in {folder}")
    try:
        while running:
            for job in [job for job in running if job.done()]:
                failure = job.exception()
                error = _last_line(failure) if failure else job.result()
                yield running.pop(job), error
            time.sleep(POLL_SECONDS)
            yield None, ""
    finally:
        if running:
            log(SAVING)
        for job in running:
            job.cancel()
