"""A run that is killed or interrupted again and again ends like one that never was; so does
`prepare`.

TACOSKIP_KILLS: how often a run is killed (20).
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tacoskip.config import load_config
from tacoskip.data.prepare import prepare
from tacoskip.run_folder import checkpoints, load_checkpoint

from .conftest import Ledger

pytestmark = pytest.mark.faults

KILLS = int(os.environ.get("TACOSKIP_KILLS", "20"))
RATES = {"train/frames_per_second", "train/loader_share"}  # of the machine, not of the run


def outcome(run: Path) -> tuple[dict[str, Any], dict[str, list[tuple[int, float]]]]:
    """The state of a finished run, and its curves."""
    last = load_checkpoint(checkpoints(run)[-1])
    state = {name: last.training[name] for name in ("weights", "optimizer", "batches", "random")}
    state |= {"average": last.weights, "best": last.training["counters"]["best"]}
    events = EventAccumulator(str(run)).Reload()
    tags = set(events.Tags()["scalars"]) - RATES
    return state, {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def same(one: Any, other: Any) -> bool:
    """Whether nested values are equal, tensors to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def training(recipe: str, corpus: Path, folder: Path, steps: int) -> list[str]:
    """The command of a run, but for its folder."""
    command = [sys.executable, "-c", "from tacoskip.cli import main; main()", "train"]
    command += [f"recipe={recipe}", f"data.root={corpus}", f"data.dir={folder / 'data'}"]
    command += ["train.deterministic=true", f"train.max_steps={steps}", "train.log_every=1"]
    command += ["data.validation=2", "data.test=1", "train.sentences=[]", "train.device=cpu"]
    if recipe == "smoke":
        command.append(f"tts.reduction_schedule=[[0,4],[{steps // 2},2]]")
    return command


@pytest.mark.parametrize("recipe", ["smoke", "smoke_asr"])
def test_killed_run_resumes_to_the_same_state(
    recipe: str, tiny_corpus: Path, tmp_path: Path, inject: Ledger
) -> None:
    """In a step, in an evaluation, while a checkpoint is written: every step saves one."""
    steps = 100
    command = training(recipe, tiny_corpus, tmp_path, steps)
    command += ["train.evaluate_every=7", "train.checkpoint_minutes=1e-9"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    subprocess.run([*command, f"run={straight}"], check=True, capture_output=True)

    draw, kills, reached = random.Random(0), 0, 0
    while kills < KILLS and reached < steps - 1:
        with subprocess.Popen(
            [*command, f"run={killed}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            # Not before it has saved a new checkpoint, so that the run gets further.
            before = {path.name for path in checkpoints(killed)}
            while {path.name for path in checkpoints(killed)} == before and process.poll() is None:
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.5))
            assert process.poll() is None, "it ended before it was killed"
            process.send_signal(signal.SIGKILL)
        kills += 1
        reached = max(int(path.stem.removeprefix("step-")) for path in checkpoints(killed))
    last = subprocess.run([*command, f"run={killed}"], capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    print(f"{recipe}: killed {kills} times, the last time at step {reached} of {steps}")

    with inject("kill -9 at any moment", kills):
        expected, curves = outcome(straight)
        found, found_curves = outcome(killed)
        assert same(found, expected)
        assert found_curves == curves, "every event once, with the same value"


def heed_signals() -> None:
    """Reset signals that a shell may have had its background jobs ignore."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_the_run_and_sets_the_exit_code(
    number: signal.Signals, tiny_corpus: Path, tmp_path: Path, inject: Ledger
) -> None:
    """Only the signal makes it save; best.pt shows that training has begun."""
    command = training("smoke", tiny_corpus, tmp_path, 40)
    command += ["train.evaluate_every=5", "train.checkpoint_minutes=1000"]
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    subprocess.run([*command, f"run={straight}"], check=True, capture_output=True)
    with subprocess.Popen(
        [*command, f"run={stopped}"], stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals
    ) as process:
        while not (stopped / "checkpoints" / "best.pt").is_file():
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(number)
        messages = process.communicate(timeout=120)[1]
    with inject("SIGINT, SIGTERM"):
        assert process.returncode == 128 + number, messages
        assert "Traceback" not in messages
        assert 5 <= load_checkpoint(checkpoints(stopped)[-1]).step < 40
        subprocess.run([*command, f"run={stopped}"], check=True, capture_output=True)
        expected, curves = outcome(straight)
        found, found_curves = outcome(stopped)
        assert same(found, expected)
        assert found_curves == curves


PREPARE = """
import sys, time
from tacoskip.config import load_config
from tacoskip.data.prepare import prepare

def show(*_):
    print(".", flush=True)
    time.sleep(0.02)

config = load_config("smoke", sys.argv[1:])
prepare(config, progress=show)
"""


def test_killed_prepare_resumes_to_the_same_manifests(
    tiny_corpus: Path, tmp_path: Path, inject: Ledger
) -> None:
    """Byte for byte those of one that was not killed."""
    common = [f"data.root={tiny_corpus}", "data.validation=2", "data.test=1"]
    config = load_config("smoke", [*common, f"data.dir={tmp_path / 'whole'}"])
    prepare(config)
    broken, draw, done = tmp_path / "broken", random.Random(3), 0
    with inject("kill -9 of prepare", 6):
        for number in range(6):
            with subprocess.Popen(
                [sys.executable, "-c", PREPARE, *common, f"data.dir={broken}"],
                stdout=subprocess.PIPE,
                text=True,
            ) as process:
                assert process.stdout is not None
                for _ in range(1 + number % 3):
                    process.stdout.readline()
                time.sleep(draw.uniform(0, 0.03))
                process.kill()
        config = load_config("smoke", [*common, f"data.dir={broken}"])
        done = prepare(config).done
        found, expected = (
            {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.jsonl.gz")}
            for name in ("broken", "whole")
        )
        assert found == expected and len(expected) == 3
    print(f"prepare: killed 6 times, {done} clips left for the last one")
