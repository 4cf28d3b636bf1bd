"""A run that resumes: what it keeps, what it refuses, what it names."""

import math
from pathlib import Path
from typing import Any

import pytest

from tacoskip.config import Config, from_dict
from tacoskip.recipe_files import read_yaml
from tacoskip.run_folder import RunError, checkpoints, load_checkpoint, save_checkpoint
from tacoskip.training import Progress, train
from tacoskip.training.tasks.tts import VoiceTask

from .conftest import Prepared


@pytest.fixture
def settings(prepared: Prepared) -> Config:
    return prepared("smoke")


def test_checkpoint_without_training_state_is_refused(settings: Config) -> None:
    settings.train.max_steps, settings.train.sentences = 1, []
    train(settings)
    newest = checkpoints(Path(settings.run))[-1]
    checkpoint = load_checkpoint(newest)
    whole = checkpoint.training
    for damage in (
        *({"weights": 1}, {"batches": []}, {"random": "x"}, {"events": 3}, {"counters": None}),
        {},
    ):
        checkpoint.training = whole | damage if damage else {}
        save_checkpoint(checkpoint, newest)
        with pytest.raises(RunError, match=r"holds no training state|another network"):
            train(settings)


def test_interrupt_of_the_last_evaluation_loses_no_step(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    settings.train.max_steps, settings.train.evaluate_every = 2, 100
    monkeypatch.setattr(VoiceTask, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(settings)
    assert [load_checkpoint(path).step for path in checkpoints(Path(settings.run))] == [2]


@pytest.mark.hostile
def test_damaged_later_checkpoints_displace_no_good_one(settings: Config) -> None:
    settings.train.max_steps, settings.train.keep, settings.train.sentences = 2, 1, []
    folder = Path(settings.run) / "checkpoints"
    folder.mkdir(parents=True)
    for step in (3, 4):
        (folder / f"step-{step:08d}.pt").write_bytes(b"damaged")
    train(settings)
    assert load_checkpoint(folder / "step-00000002.pt").step == 2


@pytest.mark.hostile
def test_weights_that_are_not_finite_are_not_resumed(settings: Config) -> None:
    settings.train.max_steps, settings.train.sentences, settings.train.evaluate_every = 1, [], 100
    train(settings)
    path = checkpoints(Path(settings.run))[-1]
    found = load_checkpoint(path)
    next(iter(found.training["weights"].values())).fill_(math.nan)
    save_checkpoint(found, path)
    settings.train.max_steps = 2
    with pytest.raises(RunError, match="expected finite weights, got NaN"):
        train(settings)


def test_changed_setting_is_named_when_a_run_resumes(settings: Config) -> None:
    settings.train.max_steps, settings.train.sentences, seen = 1, [], list[Progress]()
    train(settings)
    settings.train.max_steps, settings.train.learning_rate = 2, 5e-4
    train(settings, seen.append)
    assert next(p.share for p in seen if p.share is not None) > 0  # so the time left is right
    (line,) = [p.message for p in seen if p.message.startswith("changed settings")]
    assert line == "changed settings: train.max_steps: 1 -> 2, train.learning_rate: 0.001 -> 0.0005"
    assert from_dict(read_yaml(Path(settings.run) / "config.yaml")) == settings
    settings.cbhg.channels = 10
    with pytest.raises(RunError, match="made with another network"):
        train(settings)


def test_judge_of_a_resumed_run_selects_anew(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.train.max_steps, settings.train.sentences = 1, []
    train(settings)
    evaluate = VoiceTask.evaluate
    judged = {"cer_by_asr": 0.5}
    monkeypatch.setattr(VoiceTask, "evaluate", lambda *inputs: evaluate(*inputs) | judged)
    settings.train.max_steps, settings.train.select = 2, "cer_by_asr"
    assert train(settings)["best"]["cer_by_asr"] == 0.5
