"""Several processes of one run: killed, interrupted, resumed; and memory that runs out.

tests/training/test_processes.py compares their gradients with those of one process.
"""

import gzip
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tacoskip.data.prepare import prepare
from tacoskip.run_folder import checkpoints, load_checkpoint

from .conftest import Ledger
from .test_kill import same

pytestmark = pytest.mark.faults

# Without random numbers any number of processes computes the same.
WITHOUT_DROPOUT = ["tts.prenet_dropout=0", "tts.frame_dropout=0"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TRAIN = ["-m", "tacoskip.cli", "train", "recipe=smoke"]

Process = subprocess.Popen[str]
Start = Callable[..., Process]


@pytest.fixture
def common(tiny_corpus: Path, tmp_path: Path) -> list[str]:
    """Settings of every run here, whose corpus is prepared; every step saves a checkpoint."""
    from tacoskip.config import load_config

    common = [f"data.root={tiny_corpus}", f"data.dir={tmp_path / 'data'}", "data.validation=2"]
    common += ["data.test=1", "train.device=cpu", "train.deterministic=true", "train.log_every=1"]
    common += ["train.evaluate_every=1000", "train.checkpoint_minutes=1e-9", "train.sentences=[]"]
    common += ["train.keep=1000"]
    config = load_config("smoke", common)
    prepare(config)
    return common


@pytest.fixture
def start(common: list[str], tmp_path: Path) -> Start:
    """Starts training in tmp_path / name, in one process or two."""

    def started(name: str, processes: int, *pairs: str) -> Process:
        launcher = TORCHRUN if processes == 2 else [sys.executable]
        return subprocess.Popen(
            [*launcher, *TRAIN, *common, *pairs, f"run={tmp_path / name}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return started


def finish(process: Process) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def step(run: Path) -> int:
    saved = checkpoints(run)
    return int(saved[-1].stem.removeprefix("step-")) if saved else 0


def wait_for(condition: Callable[[], bool], process: Process) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def workers(launcher: int) -> list[int]:
    """The training processes that a launcher started, the main one first."""
    command = ["ps", "-o", "pid=,args=", "--ppid", str(launcher)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(int(line.split()[0]) for line in lines if "tacoskip.cli" in line)


def state(run: Path) -> dict[str, Any]:
    training = load_checkpoint(checkpoints(run)[-1]).training
    return {name: training[name] for name in ("weights", "optimizer", "random")}


def losses(run: Path) -> list[float]:
    return [event.value for event in EventAccumulator(str(run)).Reload().Scalars("train/loss")]


def test_two_processes_have_the_losses_of_one(start: Start, tmp_path: Path) -> None:
    """Two from the beginning, or two that resume what one began."""
    pairs = [*WITHOUT_DROPOUT, "block=reversible", "train.max_steps=6"]
    finish(start("one", 1, *pairs))
    output = finish(start("two", 2, *pairs))
    assert output.count("done: 6 steps") == 1, "only the main process reports"
    (tmp_path / "both" / "checkpoints").mkdir(parents=True)
    third = checkpoints(tmp_path / "one")[2]
    shutil.copy(third, tmp_path / "both" / "checkpoints" / third.name)
    finish(start("both", 2, *pairs))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert losses(tmp_path / "both") == pytest.approx(losses(tmp_path / "one")[3:], rel=1e-5)


def test_killed_process_ends_the_run_which_resumes_to_the_bit(
    start: Start, tmp_path: Path, inject: Ledger
) -> None:
    finish(start("straight", 2, "train.max_steps=30"))
    killed = tmp_path / "killed"
    for victim in (1, 0):
        run, goal = start("killed", 2, "train.max_steps=30"), step(killed) + 4
        wait_for(lambda goal=goal: step(killed) >= goal, run)
        os.kill(workers(run.pid)[victim], signal.SIGKILL)
        began = time.monotonic()
        with inject("several processes: one killed"):
            output, _ = run.communicate(timeout=120)
            print(f"process {victim} killed: over after {time.monotonic() - began:.0f} s")
            assert run.returncode == 1
            (error,) = [line for line in output.splitlines() if line.startswith("error: ")]
            assert "another process of this run has ended" in error
    finish(start("killed", 2, "train.max_steps=30"))
    assert same(state(killed), state(tmp_path / "straight"))
    assert losses(killed) == losses(tmp_path / "straight")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["train.learning_rate=0.5"], "train.learning_rate=0.5 (0.001 on the first)"),
        (["data.dir=shorter"], "prepared clips="),
    ],
)
def test_machines_with_different_settings_are_refused(
    pairs: list[str], message: str, common: list[str], tmp_path: Path, inject: Ledger
) -> None:
    shutil.copytree(tmp_path / "data", tmp_path / "shorter")
    manifest = tmp_path / "shorter" / "train.jsonl.gz"
    lines = gzip.decompress(manifest.read_bytes()).splitlines(keepends=True)
    manifest.write_bytes(gzip.compress(b"".join(lines[1:])))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = []
    for rank in range(2):
        machine = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0"} | address
        settings = [*common, "train.max_steps=3", f"run={tmp_path / 'run'}"]
        processes.append(
            subprocess.Popen(
                [sys.executable, *TRAIN, *settings, *(pairs if rank else [])],
                env=os.environ | machine,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    with inject("several processes: different settings"):
        for process in processes:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 2, output
            assert message in output and "Traceback" not in output
    assert not checkpoints(tmp_path / "run")


@pytest.mark.parametrize("receiver", ["launcher", "main", "other"])
def test_signal_to_one_process_stops_all_and_saves(
    receiver: str, start: Start, tmp_path: Path, inject: Ledger
) -> None:
    """Only the signal makes it save; best.pt shows that training has begun."""
    run = start(
        "run", 2, "train.max_steps=100000", "train.checkpoint_minutes=100", "train.evaluate_every=2"
    )
    wait_for((tmp_path / "run" / "checkpoints" / "best.pt").is_file, run)
    main, other = workers(run.pid)
    os.kill({"launcher": run.pid, "main": main, "other": other}[receiver], signal.SIGTERM)
    with inject("several processes: signal"):
        output, _ = run.communicate(timeout=300)
        assert run.returncode != 0
        assert step(tmp_path / "run") > 0, output
        assert len(state(tmp_path / "run")["random"]) == 2


MEMORY = """
import resource, sys
import torch
from tacoskip.config import load_config
from tacoskip.training import loop, memory, train

config = load_config("smoke", sys.argv[2:])
room = int(sys.argv[1]) << 20
begin = loop.Trainer._try_longest_batch

def short(self):
    pages = int(open("/proc/self/statm").read().split()[0])
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, most))
    try:
        begin(self)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

loop.Trainer._try_longest_batch = short
try:
    train(config, lambda p: print(p.step, p.message, flush=True) if p.message else None)
except memory.OutOfMemory as error:
    print("error:", error)
"""


def test_lack_of_memory_shows_before_the_first_step(
    common: list[str], tmp_path: Path, inject: Ledger
) -> None:
    """The system gives the process no more than 60 MiB for the longest batch."""
    wide = ["postnet.bank_size=8", "postnet.bank_channels=2048"]
    wide += ["audio.hop_ms=3.125", "tts.frames_per_step=16"]
    wide += ["train.max_steps=2", "data.max_batch=16", "data.batch_seconds=60"]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, "60", *common, *wide, f"run={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    with inject("no memory left"):
        (line,) = (line for line in done.stdout.splitlines() if "no memory" in line)
        assert line.startswith("error: no memory for") and "data.batch_seconds" in line
