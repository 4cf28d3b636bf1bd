"""A run that is killed again and again ends as the run that never was: `make test-faults`.

KILLS tells how often (TACOSKIP_KILLS, 20 by default).
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

from tacoskip.run_folder import checkpoints, load_checkpoint

from .conftest import Ledger

pytestmark = pytest.mark.faults

KILLS = int(os.environ.get("TACOSKIP_KILLS", "20"))
RATES = {"train/frames_per_second"}  # of the machine, not of the run


def outcome(run: Path) -> tuple[dict[str, Any], dict[str, list[tuple[int, float]]]]:
    """What a finished run has learnt, and its curves."""
    last = load_checkpoint(checkpoints(run)[-1])
    learnt = {"weights": last.weights} | {
        name: last.training[name] for name in ("weights", "optimizer", "batches", "best", "random")
    }
    events = EventAccumulator(str(run)).Reload()
    tags = set(events.Tags()["scalars"]) - RATES
    return learnt, {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def same(one: Any, other: Any) -> bool:
    """Whether nested values are equal, tensors to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("recipe", ["smoke", "smoke_asr"])
def test_kill_9_at_any_moment(
    recipe: str, tiny_corpus: Path, tmp_path: Path, inject: Ledger
) -> None:
    """In a step, in an evaluation, while a checkpoint is written: every step saves one."""
    steps = 100
    command = [sys.executable, "-c", "from tacoskip.cli import main; main()", "train"]
    command += [f"recipe={recipe}", f"data.root={tiny_corpus}", f"data.dir={tmp_path / 'data'}"]
    command += ["train.deterministic=true", f"train.max_steps={steps}", "train.log_every=1"]
    command += ["train.evaluate_every=7", "train.checkpoint_minutes=1e-9", "train.device=cpu"]
    command += ["data.validation=2", "data.test=1", "train.sentences=[]"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    subprocess.run([*command, f"run={straight}"], check=True, capture_output=True)

    draw, kills, reached = random.Random(0), 0, 0
    while kills < KILLS and reached < steps - 1:
        with subprocess.Popen(
            [*command, f"run={killed}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as training:
            # Not before it has gone on from where it was: so the run gets somewhere.
            before = {path.name for path in checkpoints(killed)}
            while {path.name for path in checkpoints(killed)} == before and training.poll() is None:
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.5))
            assert training.poll() is None, "it ended before it was killed"
            training.send_signal(signal.SIGKILL)
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
