"""Where the runs of an ablation run: processes of this machine, or a Ray cluster.

A launcher takes run folders that hold a request.json and yields (folder, error) as each ends, error
"" for one that is done; between, it yields (None, "") about once a second, so that its caller can
look around. Every run is the same worker process with the same request, so results do not depend on
the launcher.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from tacoskip.ablation.plan import RESULT
from tacoskip.ablation.worker import REQUEST

Ended = tuple[Path | None, str]

LOG = "log.txt"
TICK_SECONDS = 1.0
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
SAVING = "interrupted: what is running is saved first"
# For a cluster to answer at all.
CALL_SECONDS = 5.0
# Times that a run starts again elsewhere because its node is gone, and what a run on a cluster gets
# to save itself when all is interrupted.
RETRIES, PARTING_SECONDS = 5, 60.0
# The file of a run that names its node; and how long a node that Ray has given up may work on, cut
# off, before its own Ray ends what runs there: until then nobody else takes the run.
NODE, CUT_OFF_SECONDS = "node", 60.0


def check_launcher(launcher: str) -> None:
    """Raise ValueError where Ray is asked for and is not installed, or nobody answers for it."""
    if launcher != "ray":
        return
    if find_spec("ray") is None:
        raise ValueError(
            "launcher=ray needs Ray, which is not installed here: see docs/several-machines.md"
        )
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "auto", "local") or "://" in address:
        return  # Ray knows what to make of it
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"expected RAY_ADDRESS=HOST:PORT (10.0.0.1:6379), got '{address}'")
    try:
        socket.create_connection((host, int(port)), CALL_SECONDS).close()
    except OSError as error:
        raise ValueError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({error}); "
            "on that machine: ray start --head --port PORT, and the port must be open"
        ) from None


def launch(
    launcher: str, runs: list[Path], jobs: int, threads: int, say: Callable[[str], None]
) -> Generator[Ended, None, None]:
    """Run all, at most `jobs` at once (0: as many as there are GPUs, or cores for `threads` each).

    SIGINT, SIGTERM and a terminal that goes away end it with KeyboardInterrupt, once what is
    running has been saved. say: lines for whoever watches. Raises ValueError when a cluster cannot
    be reached, or a machine of it does not see the runs' folder.
    """
    with _interrupted_by_signals():
        if launcher == "ray":
            yield from _ray(runs, jobs, threads, say)
        else:
            yield from _local(runs, jobs or _room(threads), threads, say)


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored stays so: nohup asks for that.
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    except KeyboardInterrupt:  # Ray raises one of its own in place of ours
        raise KeyboardInterrupt(*received[:1]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def _local(
    runs: list[Path], jobs: int, threads: int, say: Callable[[str], None]
) -> Iterator[Ended]:
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
        if slots:
            say(SAVING)
        for _, process in slots.values():
            process.send_signal(signal.SIGTERM)
        for _, process in slots.values():
            process.wait()


def _ray(runs: list[Path], jobs: int, threads: int, say: Callable[[str], None]) -> Iterator[Ended]:
    """Spread over a Ray cluster that sees the same file system; RAY_ADDRESS names one, else one is
    started here. A run whose node dies goes on from its last checkpoint on another.

    Ray itself would start it again, too, but of a node that has lost its power it waits seven
    minutes for an answer (RAY_grpc_client_keepalive_time_ms, which its servers let nobody lower).
    """
    check_launcher("ray")
    import ray

    own = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, configure_logging=False)
    except (RuntimeError, ConnectionError, ray.exceptions.RayError) as failure:
        raise ValueError(
            f"Ray at {os.environ.get('RAY_ADDRESS', 'this machine')} does not let us in: "
            f"{_last_line(failure)} (a cluster with a token wants RAY_AUTH_MODE=token here "
            "too; this machine must be one of the cluster; `ray stop` forgets one that has died)"
        ) from None
    for number, handler in own.items():  # Ray takes SIGTERM for itself
        signal.signal(number, handler)
    resources = ray.cluster_resources()
    gpus = 1 if resources.get("GPU") else 0

    @ray.remote(num_cpus=max(1, threads), num_gpus=gpus, max_retries=0)
    def remote(run: str, folder: str) -> str:
        if not Path(run, REQUEST).is_file():
            return f"machine {socket.gethostname()} does not see {run}: it must be shared"
        Path(run, NODE).write_text(ray.get_runtime_context().get_node_id(), encoding="utf-8")
        os.chdir(folder)  # paths in settings are relative to where the ablation was started
        process = _start(Path(run), threads)
        try:
            while process.poll() is None:  # what cancels it is heard between two looks only
                time.sleep(TICK_SECONDS / 2)
            return _outcome(Path(run), process.returncode)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)  # Ray has all that it starts ignore SIGINT
            process.wait()
            raise

    waiting = [run.resolve() for run in reversed(runs)]
    active: dict[Any, Path] = {}
    tries: Counter[Path] = Counter()
    silent: dict[Path, float] = {}  # since when, runs whose node Ray has given up

    def again(run: Path, why: str) -> str:
        """Have a run start once more, if it may; why not."""
        if tries[run] > RETRIES:
            return why
        say(f"{run.parent.name}/{run.name}: its machine or process is gone; it starts again")
        waiting.append(run)
        return ""

    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        where = (
            "of " + os.environ["RAY_ADDRESS"]
            if "RAY_ADDRESS" in os.environ
            else ("without RAY_ADDRESS: one that runs here, or is started for this ablation")
        )
        say(f"Ray: machines {len(nodes)}, cores {resources.get('CPU', 0):.0f}, {where}")
        _check_seen(ray, nodes, waiting)
        while waiting or active:
            while waiting and (not jobs or len(active) < jobs):
                run = waiting.pop()
                tries[run] += 1
                (run / NODE).unlink(missing_ok=True)
                active[remote.remote(str(run), os.getcwd())] = run
            ended, _ = ray.wait(list(active), timeout=TICK_SECONDS)
            for one in ended:
                run = active.pop(one)
                try:
                    error = ray.get(one)
                except ray.exceptions.RayTaskError as failure:
                    error = _last_line(failure)
                except ray.exceptions.RayError as failure:  # not the run's own
                    if not (error := again(run, _last_line(failure))):
                        continue
                yield run, error
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            for one, run in list(active.items()):
                if not (run / NODE).is_file() or (run / NODE).read_text("utf-8") in {"", *alive}:
                    silent.pop(run, None)
                elif time.monotonic() - silent.setdefault(run, time.monotonic()) > CUT_OFF_SECONDS:
                    ray.cancel(one)
                    del active[one], silent[run]
                    if error := again(run, "its machine is gone"):
                        yield run, error
            yield None, ""
    finally:
        if active:
            say(SAVING)
        for one in active:
            ray.cancel(one)
        if active:
            ray.wait(list(active), num_returns=len(active), timeout=PARTING_SECONDS)
        ray.shutdown()


def _check_seen(ray: Any, nodes: list[dict[str, Any]], runs: list[Path]) -> None:
    """Raise ValueError where a machine of the cluster does not see the folders of the runs."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=0)
    def seen(path: str) -> bool:
        return Path(path).is_file()

    for node in nodes if runs else []:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked = seen.options(scheduling_strategy=there).remote(str(runs[0] / REQUEST))
        if not ray.get(asked, timeout=PARTING_SECONDS):
            raise ValueError(
                f"machine {node['NodeManagerAddress']} of the Ray cluster does not see {runs[0]}: "
                "an ablation must lie in a folder that all machines share, under one path"
            )


def _last_line(failure: Exception) -> str:
    """What a Ray error comes to: its last line, without colours."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(failure)).strip().splitlines()
    return lines[-1].strip()[:300] if lines else type(failure).__name__
