"""Where the runs of an ablation are executed: this machine, a Ray cluster, or Slurm.

Every run is the same worker process with the same request, so results do not depend on the
launcher. A launcher is a context that starts all runs and gives their futures: `done()`,
`exception()`, and `result()`, which says why a run failed. At its end it saves what is in progress.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
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
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
SAVING = "interrupted: saving the runs in progress"
# Times that a cluster starts a run again after its machine failed, and the time that it gives a run
# to save itself.
RETRIES, SAVE_SECONDS = 5, 60.0
# Packages that launchers need; tacoskip's extras have the launchers' names.
PACKAGES = {"ray": "ray", "slurm": "submitit"}
# submitit's executor, and the time limit of a job unless SBATCH_TIMELIMIT is set.
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
    launcher: str, runs: list[Path], jobs: int, threads: int, log: Log, runs_per_job: int = 1
) -> Generator[Ended, None, None]:
    """Execute all runs, at most `jobs` at a time (0: as many as there is room for).

    runs_per_job: so many runs follow one another in each job of Slurm.

    Yields (folder, error) as each run ends, with the error "" for one that is done, and (None, "")
    about once a second. SIGINT, SIGTERM and SIGHUP end it with KeyboardInterrupt after the runs in
    progress have been saved. Raises ValueError when a cluster cannot be reached.
    """
    if not runs:
        return
    executors: dict[str, Callable[..., AbstractContextManager[Sequence[Any]]]]
    executors = {"local": _local, "ray": _ray, "slurm": partial(_slurm, runs_per_job)}
    with _signals_interrupt(), executors[launcher](runs, jobs, max(1, threads), log) as futures:
        running = dict(zip(futures, runs, strict=True))
        try:
            while running:
                time.sleep(POLL_SECONDS)
                for one in [one for one in running if one.done()]:
                    failure = one.exception()
                    yield running.pop(one), _last_line(failure) if failure else one.result()
                yield None, ""
        finally:
            if running:
                log(SAVING)


@contextmanager
def _local(runs: list[Path], jobs: int, threads: int, log: Log) -> Iterator[Sequence[Future[str]]]:
    """Execute on this machine, one run a GPU where there are any."""
    gpus = torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    slots = jobs or gpus or max(1, (cores or 1) // threads)
    workers: list[subprocess.Popen[bytes]] = []
    free = SimpleQueue[int]()
    for slot in range(slots):
        free.put(slot)

    def run(path: Path) -> str:
        slot = free.get()
        gpu = {"CUDA_VISIBLE_DEVICES": str(slot % gpus)} if gpus else {}
        try:
            return run_worker(path, threads, "", gpu, workers.append)
        finally:
            free.put(slot)

    def cancel() -> None:
        for worker in workers:
            worker.terminate()

    with _in_threads(run, runs, slots, cancel) as futures:
        yield futures


@contextmanager
def _ray(runs: list[Path], jobs: int, threads: int, log: Log) -> Iterator[Sequence[Future[str]]]:
    """Execute on the Ray cluster at RAY_ADDRESS, else on one that is started here.

    All machines must see the runs' folder. Ray starts a run again on another machine when its own
    fails; the run resumes from its last checkpoint.
    """
    import ray

    handlers = {number: signal.getsignal(number) for number in SIGNALS}  # Ray replaces them
    address = os.environ.get("RAY_ADDRESS", "this machine")
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, configure_logging=False)
    except (RuntimeError, ValueError, ConnectionError, ray.exceptions.RayError) as failure:
        raise ValueError(
            f"no Ray cluster at RAY_ADDRESS={address} accepts this machine: {_last_line(failure)} "
            "(expected HOST:PORT of `ray start --head`, and RAY_AUTH_MODE=token if it has a token)"
        ) from None
    for number, handler in handlers.items():
        signal.signal(number, handler)
    gpus = int("GPU" in ray.cluster_resources())
    log(f"Ray at {address}: {ray.cluster_resources()}")
    task: Any = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=RETRIES)(run_worker)
    tasks: list[Any] = []

    def run(path: Path) -> str:
        one = task.remote(path.resolve(), threads, os.getcwd(), _environment())
        tasks.append(one)
        return str(ray.get(one))

    def cancel() -> None:
        for one in tasks:
            ray.cancel(one)
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=SAVE_SECONDS)
        ray.shutdown()

    with _in_threads(run, runs, jobs or len(runs), cancel) as futures:
        yield futures


@contextmanager
def _in_threads(
    run: Callable[[Path], str], runs: list[Path], count: int, cancel: Callable[[], None]
) -> Iterator[Sequence[Future[str]]]:
    pool = ThreadPoolExecutor(count)
    try:
        yield [pool.submit(run, path) for path in runs]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        cancel()
        pool.shutdown()


@contextmanager
def _slurm(
    runs_per_job: int, runs: list[Path], jobs: int, threads: int, log: Log
) -> Iterator[Sequence[Any]]:
    """Submit a job array; SBATCH_PARTITION, SBATCH_GPUS_PER_NODE and the like apply."""
    import submitit

    folder = Path(os.path.commonpath([run.resolve().parent for run in runs])) / "slurm"
    executor = submitit.AutoExecutor(folder, SLURM_EXECUTOR, slurm_max_num_timeout=RETRIES)
    executor.update_parameters(
        name="tacoskip",
        timeout_min=SLURM_MINUTES,
        cpus_per_task=threads,
        slurm_array_parallelism=jobs or len(runs),
    )
    task = SlurmTask(threads, os.getcwd(), _environment())
    paths = [run.resolve() for run in runs]
    groups = [paths[first : first + runs_per_job] for first in range(0, len(runs), runs_per_job)]
    submitted = executor.map_array(task, groups)
    log(f"Slurm: submitted {len(groups)} jobs; their logs are in {folder}")
    try:
        yield [
            RunOfJob(job, number)
            for job, group in zip(submitted, groups, strict=True)
            for number in range(len(group))
        ]
    finally:
        for job in submitted:
            if not job.done():
                job.cancel()


@dataclass(eq=False)
class RunOfJob:
    """The future of a run in a job of several; it is done when the job is."""

    job: Any
    number: int

    def done(self) -> bool:
        return bool(self.job.done())

    def exception(self) -> BaseException | None:
        failure: BaseException | None = self.job.exception()
        return failure

    def result(self) -> str:
        return str(self.job.result()[self.number])


class SlurmTask:
    """Runs as a Slurm job; submitit queues it again when it is preempted or out of time."""

    def __init__(self, threads: int, folder: str, environment: dict[str, str]) -> None:
        self.arguments = threads, folder, environment
        self.workers: list[subprocess.Popen[bytes]] = []

    def __call__(self, runs: list[Path]) -> list[str]:
        """Execute the runs one after the other; returns why each failed, or ""."""
        return [
            ""
            if (run / RESULT).is_file()
            else run_worker(run, *self.arguments, self.workers.append)
            for run in runs
        ]

    def checkpoint(self, runs: list[Path]) -> Any:
        """Save the run in progress; called by submitit before the job is queued again."""
        from submitit.helpers import DelayedSubmission

        for worker in self.workers:
            worker.terminate()
            worker.wait()
        return DelayedSubmission(SlurmTask(*self.arguments), runs)


def run_worker(
    run: Path,
    threads: int,
    folder: str,
    environment: dict[str, str],
    on_start: Callable[["subprocess.Popen[bytes]"], None] = lambda worker: None,
) -> str:
    """Execute one run and wait for it; returns why it failed, or "".

    folder: the working folder, which paths in settings are relative to. environment: variables of
    the machine that started the ablation. on_start: receives the worker.
    """
    if not (run / REQUEST).is_file():
        return f"machine {socket.gethostname()} does not see {run}: expected a shared folder"
    if (run / LOG).is_symlink():
        (run / LOG).unlink()
    with (run / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tacoskip.ablation.worker", str(run), str(os.getpid())],
            env=os.environ | environment | {"OMP_NUM_THREADS": str(threads)},
            cwd=folder or None,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            close_fds=False,  # it inherits the lock of the ablation's folder
            start_new_session=True,  # Ctrl-C reaches the ablation, which passes it on once
        )
    on_start(process)
    try:
        while process.poll() is None:  # Ray interrupts Python code, not a wait
            time.sleep(POLL_SECONDS / 2)
    finally:
        process.terminate()  # interrupted: the worker saves the run and ends
        process.wait()
    return _error(run, process.returncode)


def _error(run: Path, code: int) -> str:
    """Return why a worker failed, or ""."""
    if code == 0 and (run / RESULT).is_file():
        return ""
    if code < 0:
        memory = ", perhaps out of memory" if code == -signal.SIGKILL else ""
        return f"ended by {signal.Signals(-code).name}{memory}"
    lines = (run / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"ended with code {code}, see {LOG} in its folder"


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Turn SIGNALS into KeyboardInterrupt(number); ignored ones stay ignored, as nohup asks."""
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt(number)

    main = threading.current_thread() is threading.main_thread()
    numbers = [one for one in SIGNALS if main and signal.getsignal(one) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:  # Ray raises another one in place of ours
        raise KeyboardInterrupt(*received[:1]) from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _environment() -> dict[str, str]:
    """Return the variables that a worker on another machine needs."""
    return {k: v for k, v in os.environ.items() if k.startswith("TACOSKIP_") or k == "PYTHONPATH"}


def _last_line(error: BaseException) -> str:
    """Return the last line of a cluster's error, without colours."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[-1].strip()[:300] if lines else type(error).__name__
