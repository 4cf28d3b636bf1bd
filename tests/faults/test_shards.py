"""Shards: the writer killed at random moments, the server gone during training."""

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tacoskip.config import load_config
from tacoskip.data.prepare import prepare
from tacoskip.data.prepared import write_shards
from tacoskip.run_folder import checkpoints, load_checkpoint

from .conftest import Ledger

pytestmark = pytest.mark.faults

SERVER = Path(__file__).parents[1] / "range_server.py"
SMALL = 15_000
WRITE = (
    "import sys, time; from pathlib import Path; from tacoskip.data.prepared import write_shards\n"
    "def show(*_): print('.', flush=True); time.sleep(0.005)\n"
    f"write_shards(Path(sys.argv[1]), Path(sys.argv[2]), show, {SMALL})"
)


@pytest.fixture
def common(tiny_corpus: Path, tmp_path: Path) -> list[str]:
    """Settings of a short deterministic run on the tiny corpus, which is prepared."""
    pairs = [f"data.dir={tmp_path / 'data'}", "data.validation=2", "data.test=1"]
    pairs += ["train.device=cpu", "train.deterministic=true", "train.evaluate_every=1000"]
    pairs += ["train.max_steps=30", "train.checkpoint_minutes=1e-9", "train.sentences=[]"]
    config = load_config("smoke", [f"data.root={tiny_corpus}", *pairs])
    prepare(config)
    return [*pairs, "data.batch_seconds=5"]


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.usefixtures("common")
def test_killed_writer_writes_the_same_shards_again(inject: Ledger, tmp_path: Path) -> None:
    prepared, whole, broken = (tmp_path / name for name in ("data", "whole", "broken"))
    write_shards(prepared, whole, shard_bytes=SMALL)
    draw = random.Random(5)
    with inject("kill -9 of a writer of shards", 6):
        for number in range(6):
            command = [sys.executable, "-c", WRITE, str(prepared), str(broken)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            for _ in range(2 * number + 1):
                process.stdout.readline()
            time.sleep(draw.uniform(0, 0.03))
            process.kill()
            process.communicate()
        write_shards(prepared, broken, shard_bytes=SMALL)
        assert digests(broken) == digests(whole)


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    command = [sys.executable, str(SERVER), str(folder), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def train(pairs: list[str], root: object, run: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tacoskip.cli", "train", "recipe=smoke", *pairs]
    return subprocess.Popen(
        [*command, f"data.root={root}", f"run={run}"], stderr=subprocess.PIPE, text=True
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(checkpoints(run)[-1]).training["weights"]


def test_training_stops_and_resumes_when_the_server_is_gone(
    inject: Ledger, common: list[str], tmp_path: Path
) -> None:
    """One line within a minute, exit code 1; with the server back the same command goes on."""
    write_shards(tmp_path / "data", tmp_path / "shards", shard_bytes=SMALL)
    process = train(common, tmp_path / "shards", tmp_path / "whole")
    assert process.wait(300) == 0, process.communicate()
    with inject("server of shards killed"):
        with serving(tmp_path / "shards") as (server, place):
            process = train(common, place, tmp_path / "left")
            while not checkpoints(tmp_path / "left"):
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            os.kill(server.pid, signal.SIGKILL)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 1 and "Traceback" not in said
        assert said.count("error: ") == 1
        assert re.search(r"error: cannot read http.*audio.*\(5 attempts\)$", said.strip())
        with serving(tmp_path / "shards", int(place.rpartition(":")[2])):
            process = train(common, place, tmp_path / "left")
            assert process.wait(300) == 0, process.communicate()
        found, expected = weights(tmp_path / "left"), weights(tmp_path / "whole")
        assert all(torch.equal(found[name], expected[name]) for name in expected)
