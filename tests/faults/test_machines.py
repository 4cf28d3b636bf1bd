"""Several processes of one run: killed, told to stop, gone on with; and memory that runs out.

What they learn is held against one process in tests/training/test_learning.py.
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

# Nothing is drawn, so that any number of processes learns the same.
STILL = ["tts.prenet_dropout=0", "tts.frame_dropout=0"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def common(tiny_corpus: Path, tmp_path: Path) -> list[str]:
    """Settings of every run here, whose corpus is prepared."""
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
    """Starts training in tmp_path / name, in one process or two; every step saves a checkpoint."""

    def started(name: str, processes: int, *pairs: str) -> "subprocess.Popen[str]":
        launcher = TORCHRUN if processes == 2 else [sys.executable]
        module = ["-m", "tacoskip.cli", "train", "recipe=smoke"]
        return subprocess.Popen(
            [*launcher, *module, *common, *pairs, f"run={tmp_path / name}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return started


def finish(process: "subprocess.Popen[str]") -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def step(run: Path) -> int:
    found = checkpoints(run)
    return int(found[-1].stem.removeprefix("step-")) if found else 0


def reach(run: Path, goal: int, process: "subprocess.Popen[str]") -> None:
    while step(run) < goal:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def workers(launcher: int) -> list[int]:
    """The processes of a run: those that its launcher has started, the main one first."""
    asked = ["ps", "-o", "pid=,args=", "--ppid", str(launcher)]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(int(line.split()[0]) for line in lines if "tacoskip.cli" in line)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def learnt(run: Path) -> dict[str, Any]:
    training = load_checkpoint(checkpoints(run)[-1]).training
    return {name: training[name] for name in ("weights", "optimizer", "random", "random_others")}


def losses(run: Path) -> list[float]:
    return [event.value for event in EventAccumulator(str(run)).Reload().Scalars("train/loss")]


def test_one_process_and_two_learn_the_same(start: Start, tmp_path: Path) -> None:
    """Two from the beginning, or one that two go on from: the losses of one, to rounding."""
    still = [*STILL, "block=reversible"]
    finish(start("one", 1, *still, "train.max_steps=6"))
    said = finish(start("two", 2, *still, "train.max_steps=6"))
    assert said.count("done: 6 steps") == 1, "one of them talks"
    finish(start("both", 1, *still, "train.max_steps=3", "train.decay_steps=6"))
    finish(start("both", 2, *still, "train.max_steps=6", "train.decay_steps=6"))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert losses(tmp_path / "both") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_a_killed_process_ends_the_run_which_goes_on_to_the_bit(
    start: Start, tmp_path: Path, inject: Ledger
) -> None:
    finish(start("straight", 2, "train.max_steps=30"))
    for victim in (1, 0):
        run = start("killed", 2, "train.max_steps=30")
        reach(tmp_path / "killed", step(tmp_path / "killed") + 4, run)
        os.kill(workers(run.pid)[victim], signal.SIGKILL)
        killed = time.monotonic()
        with inject("several processes: one killed"):
            said, _ = run.communicate(timeout=60)
            print(f"process {victim} killed: over after {time.monotonic() - killed:.0f} s")
            assert run.returncode == 1
            assert "error: another process of this run has ended" in said
    finish(start("killed", 2, "train.max_steps=30"))
    assert same(learnt(tmp_path / "killed"), learnt(tmp_path / "straight"))
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")


@pytest.mark.parametrize(
    ("pairs", "named"),
    [
        (["train.learning_rate=0.5"], "train.learning_rate=0.5 (0.001 on the first)"),
        (["data.dir=shorter"], "prepared clips to train with="),
        (["run=elsewhere"], "must be a folder that all machines share"),
    ],
)
def test_machines_that_were_told_different_things_are_refused(
    pairs: list[str], named: str, common: list[str], tmp_path: Path, inject: Ledger
) -> None:
    shutil.copytree(tmp_path / "data", tmp_path / "shorter")
    manifest = tmp_path / "shorter" / "train.jsonl.gz"
    lines = gzip.decompress(manifest.read_bytes()).splitlines(keepends=True)
    manifest.write_bytes(gzip.compress(b"".join(lines[1:])))
    port = free_port()
    processes = []
    for rank in range(2):
        told = [*common, "train.max_steps=3", f"run={tmp_path / 'run'}", *(pairs if rank else [])]
        machine = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
        machine |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tacoskip.cli", "train", "recipe=smoke", *told],
                env=os.environ | machine,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    with inject("several processes: told different things"):
        for process in processes:
            said, _ = process.communicate(timeout=120)
            assert process.returncode in (1, 2), said
            assert named in said and "Traceback" not in said
    assert not checkpoints(tmp_path / "run")


@pytest.mark.parametrize("wrong", [0, 1])
def test_who_cannot_begin_is_not_waited_for(
    wrong: int, common: list[str], tmp_path: Path, inject: Ledger
) -> None:
    """Two launchers, as on two machines; on one a setting is misspelt."""
    port, launchers = free_port(), []
    for rank in range(2):
        where = ["--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1"]
        where += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
        asked = ["-m", "tacoskip.cli", "train", "recipe=smoke"]
        told = [*common, f"run={tmp_path / 'run'}", *(["train.lr=1"] if rank == wrong else [])]
        launchers.append(
            subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *where, *asked, *told],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    with inject("several processes: told different things"):
        for rank, launcher in enumerate(launchers):
            said, _ = launcher.communicate(timeout=60)
            assert launcher.returncode != 0
            (line,) = [one for one in said.splitlines() if one.startswith("error: ")]
            if rank == wrong:
                assert "unknown key 'train.lr'" in line
            elif rank == 0:  # whose launcher keeps what the other says
                assert "another process of this run has ended" in line and "train.lr" in line
            else:
                assert "has ended" in line


@pytest.mark.parametrize("asked", ["launcher", "main", "other"])
def test_a_signal_to_one_stops_all_and_saves(
    asked: str, start: Start, tmp_path: Path, inject: Ledger
) -> None:
    """Nothing but the signal makes it save: the evaluation tells that it is on its way."""
    run = start(
        "run", 2, "train.max_steps=100000", "train.checkpoint_minutes=100", "train.evaluate_every=2"
    )
    while not (tmp_path / "run" / "checkpoints" / "best.pt").is_file():
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.05)
    found = workers(run.pid)
    os.kill({"launcher": run.pid, "main": found[0], "other": found[1]}[asked], signal.SIGTERM)
    with inject("several processes: signal"):
        said, _ = run.communicate(timeout=300)
        assert run.returncode != 0
        assert step(tmp_path / "run") > 0, said
        assert learnt(tmp_path / "run")["random_others"]


MEMORY = """
import resource, sys
import torch
from tacoskip.config import load_config
from tacoskip.training import learning, train

config = load_config("smoke", sys.argv[2:])
room = int(sys.argv[1]) << 20
begin = learning.Learning.try_longest

def short(self, *arguments):
    pages = int(open("/proc/self/statm").read().split()[0])
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, most))
    try:
        begin(self, *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

learning.Learning.try_longest = short
try:
    train(config, lambda p: print(p.step, p.message, flush=True) if p.message else None)
except learning.TooLong as error:
    print("error:", error)
"""


@pytest.mark.parametrize(
    ("room", "channels", "words"),
    [(200, 256, "it is taken in"), (60, 2048, "a single clip beside")],
)
def test_memory_runs_out(
    room: int, channels: int, words: str, start: Start, tmp_path: Path, inject: Ledger
) -> None:
    """In earnest: the system gives the process no more than `room` MiB for the longest batch."""
    wide = ["postnet.bank_size=8", f"postnet.bank_channels={channels}"]
    wide += ["audio.hop_ms=3.125", "tts.frames_per_step=16"]
    wide += ["train.max_steps=2", "train.evaluate_every=1000", "data.max_batch=16"]
    pairs = [f"data.dir={tmp_path / 'data'}", "data.root=.", "data.batch_seconds=60"]
    pairs += [f"run={tmp_path / 'run'}", "train.device=cpu", "train.sentences=[]"]
    pairs += ["data.validation=2", "data.test=1"]
    told = subprocess.run(
        [sys.executable, "-c", MEMORY, str(room), *pairs, *wide],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    with inject("no memory left"):
        assert words in told.stdout, told.stdout + told.stderr
        first = next(line for line in told.stdout.splitlines() if "no memory" in line)
        assert first.startswith(("0 no memory", "error: no memory")), "before the first step"
