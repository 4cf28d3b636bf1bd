"""Training a voice on a tiny corpus: run folder, resume, roll-back, determinism."""

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tacoskip
from tacoskip.config import Config, load_config
from tacoskip.loading import load
from tacoskip.run_folder import checkpoints, load_checkpoint
from tacoskip.training import Progress, model_card, processes, schedule, train
from tacoskip.training.board import Board
from tacoskip.training.loop import Trainer
from tacoskip.training.memory import OutOfMemory
from tacoskip.training.tasks.tts import VoiceTask

from .conftest import Prepared, train_until


@pytest.fixture
def settings(prepared: Prepared) -> Config:
    return prepared("smoke")


@pytest.mark.usefixtures("pictures")
def test_run_folder_has_every_promised_file(settings: Config) -> None:
    seen: list[Progress] = []
    settings.train.log_every = 1
    settings.train.max_steps = 4
    summary = tacoskip.train(settings, seen.append)
    run = Path(settings.run)
    assert summary["step"] == 4
    assert {"config.yaml", "environment.json", "checkpoints", "samples"} <= {
        p.name for p in run.iterdir()
    }
    environment = json.loads((run / "environment.json").read_text())
    assert environment["parameters"] == sum(p.numel() for p in load(run).model.parameters())
    assert environment["folder"] == str(Path.cwd())
    assert (run / "checkpoints" / "best.pt").is_file()
    assert [p.step for p in seen if p.scalars] == [1, 2, 3, 4]
    first = next(p.scalars for p in seen if p.scalars)
    assert {"mel_loss", "linear_loss", "stop_loss", "guided_loss", "loss"} <= first.keys()
    events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload().Tags()
    assert {"train/loss", "train/alignment", "validation/mcd_db"} <= set(events["scalars"])
    assert any(tag.startswith("within/openness/encoder/unit_00") for tag in events["scalars"])
    assert any(tag.startswith("within/gradient_norm/postnet") for tag in events["scalars"])
    assert "validation/mel_target_and_synthesized" in events["images"]
    assert any("speech/" in tag for tag in events["audio"])
    card = (run / "README.md").read_text(encoding="utf-8")
    for part in ("| block | highway |", "4 steps", f"tacoskip synthesize {settings.run}"):
        assert part in card
    assert f"| mcd_db | {summary['best']['mcd_db']:.3f} |" in card


def test_resume_matches_uninterrupted_run(settings: Config, tmp_path: Path) -> None:
    """Driven by durations; with an attention and a loss scale see below."""
    weights = {}
    settings.tts.attention = "durations"
    settings.train.max_steps, settings.train.log_every, settings.train.sentences = 4, 1, []
    for name in ("whole", "resumed"):
        settings.run = str(tmp_path / name)
        if name == "resumed":
            train_until(settings, 2)
        train(settings)
        newest = checkpoints(Path(settings.run))[-1]
        weights[name] = load_checkpoint(newest).training["weights"]
    torch.testing.assert_close(weights["whole"], weights["resumed"], atol=0, rtol=0)


def test_fp16_without_a_gpu_is_refused(settings: Config) -> None:
    settings.train.precision = "fp16"
    with pytest.raises(ValueError, match="needs a GPU"):
        train(settings)


def test_resume_restores_the_loss_scale(
    settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fp16 needs a GPU, its scaler does not; this one changes the scale every second step."""

    class Scaled(Accelerator):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)

    monkeypatch.setattr(processes, "Accelerator", Scaled)
    states = {}
    settings.train.max_steps, settings.train.log_every, settings.train.sentences = 6, 1, []
    settings.train.evaluate_every = 6
    for name in ("whole", "resumed"):
        settings.run = str(tmp_path / name)
        if name == "resumed":
            train_until(settings, 3)
        train(settings)
        states[name] = load_checkpoint(checkpoints(Path(settings.run))[-1]).training
    assert states["whole"]["scaler"]["scale"] == 1024.0 * 2**3
    assert states["resumed"]["scaler"] == states["whole"]["scaler"]
    torch.testing.assert_close(
        states["resumed"]["weights"], states["whole"]["weights"], atol=0, rtol=0
    )


def test_finished_run_started_again_logs_nothing_twice(settings: Config) -> None:
    """Nor does one whose last checkpoint was damaged: what was cut off is logged again."""
    settings.train.max_steps, settings.train.log_every, settings.train.sentences = 4, 1, []
    settings.train.evaluate_every, settings.train.checkpoint_minutes = 2, 1e-9
    settings.train.deterministic = True
    seen: list[str] = []
    try:
        first = train(settings)
        once = curves(settings.run)
        assert len(once["validation/loss"]) == 2 and any("lesion" in tag for tag in once)
        assert train(settings) == first
        assert curves(settings.run) == once
        newest = checkpoints(Path(settings.run))[-1]
        newest.write_bytes(newest.read_bytes()[:1000])
        train(settings, lambda p: seen.append(p.message))
        assert curves(settings.run) == once
    finally:
        torch.use_deterministic_algorithms(False)
    assert any("damaged" in message for message in seen)
    assert any("resumed" in message and "step 3" in message for message in seen)


def test_events_after_the_last_checkpoint_are_not_logged_twice(
    settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the final analysis, in an evaluation, or in the first step: the same bits."""
    settings.train.max_steps, settings.train.log_every = 3, 1  # evaluated at the end alone
    settings.train.checkpoint_minutes = 1e-9
    settings.train.deterministic = True
    weights, moments = {}, ("", "analysis", "speech", "gradient_norms")
    try:
        for moment in moments:
            settings.run = str(tmp_path / (moment or "straight"))
            if moment:
                monkeypatch.setattr(Board, moment, killed_after(getattr(Board, moment)))
                with pytest.raises(RuntimeError, match="killed"):
                    train(settings)
                monkeypatch.undo()
            train(settings)
            assert torch.are_deterministic_algorithms_enabled()
            newest = checkpoints(Path(settings.run))[-1]
            weights[moment] = load_checkpoint(newest).training["weights"]
    finally:
        torch.use_deterministic_algorithms(False)
    straight = curves(str(tmp_path / "straight"))
    assert len(straight) > 20
    for moment in moments[1:]:
        assert curves(str(tmp_path / moment)) == straight, moment
        torch.testing.assert_close(weights[moment], weights[""], atol=0, rtol=0)


def killed_after(method: Callable[..., None]) -> Callable[..., None]:
    def killed(*arguments: Any) -> None:
        method(*arguments)
        raise RuntimeError("killed")

    return killed


def curves(run: str) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of a run but what the machine gave, with what is there twice."""
    events = EventAccumulator(run).Reload()
    tags = set(events.Tags()["scalars"]) - {"train/frames_per_second", "train/loader_share"}
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def test_losses_fall_on_a_small_corpus(settings: Config) -> None:
    """Sixty steps on a few clips; a broken gradient or attention would not."""
    seen: list[dict[str, float]] = []
    settings.train.max_steps, settings.train.evaluate_every, settings.train.log_every = 60, 60, 1
    settings.train.learning_rate, settings.train.sentences = 1e-2, []
    settings.tts.prenet_dropout = settings.tts.frame_dropout = 0.0
    train(settings, lambda p: seen.append(p.scalars) if p.scalars else None)

    def fall(name: str) -> float:
        return sum(s[name] for s in seen[-5:]) / sum(s[name] for s in seen[:5])

    # Most of the spectrum is noise nobody can learn; the rest is.
    assert fall("mel_loss") < 0.9
    assert fall("stop_loss") < 0.7
    assert fall("guided_loss") < 0.7


def test_loss_that_stays_infinite_ends_the_run_with_advice(settings: Config) -> None:
    settings.train.max_steps, settings.loss.linear = 30, float("inf")
    settings.train.sentences, seen = [], list[str]()
    with pytest.raises(FloatingPointError, match="lower train"):
        train(settings, lambda p: seen.append(p.message))
    left_out = [message for message in seen if "step skipped" in message]
    assert len(left_out) == 20 and all("(clip" in message for message in left_out)


def test_diverging_run_rolls_back_with_a_lower_rate(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.train.max_steps, settings.train.sentences, settings.train.log_every = 3, [], 1
    settings.train.warmup_steps = 0
    train(settings)
    original, calls = VoiceTask.losses, iter(range(1000))

    def losses(self: VoiceTask, *arguments: Any) -> dict[str, torch.Tensor]:
        found = original(self, *arguments)
        if 2 <= next(calls) < 22:  # after two good steps
            found["mel_loss"] = found["mel_loss"] * float("nan")
        return found

    monkeypatch.setattr(VoiceTask, "losses", losses)
    settings.train.max_steps, seen = 8, list[Progress]()
    summary = train(settings, seen.append)
    assert summary["step"] == 8 and math.isfinite(summary["last"]["loss"])
    assert "the learning rate is 0.5 times the recipe's from here" in [p.message for p in seen]
    events = EventAccumulator(settings.run).Reload()
    rates = {e.step: e.value for e in events.Scalars("train/learning_rate")}
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6, 7, 8]
    expected = schedule.learning_rate(settings.train, step=3, minutes=0.0)
    assert rates[4] == pytest.approx(0.5 * expected)
    assert events.Scalars("train/steps_skipped")[-1].value == 20
    weights = load_checkpoint(checkpoints(Path(settings.run))[-1]).training["weights"]
    assert all(value.isfinite().all() for value in weights.values())


def test_trying_the_longest_batch_changes_no_bit(
    settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.train.max_steps, settings.train.sentences, weights = 2, [], []
    settings.train.evaluate_every, settings.tts.reduction_schedule = 100, [[0, 4], [100, 2]]
    for name in ("tried", "untried"):
        settings.run = str(tmp_path / name)
        train(settings)
        newest = checkpoints(Path(settings.run))[-1]
        weights.append(load_checkpoint(newest))
        monkeypatch.setattr(Trainer, "_try_longest_batch", lambda *_: None)
    for name in ("weights", "random"):
        torch.testing.assert_close(
            weights[0].training[name], weights[1].training[name], atol=0, rtol=0
        )
    torch.testing.assert_close(weights[0].weights, weights[1].weights, atol=0, rtol=0)


def test_lack_of_memory_ends_a_run_before_its_first_step(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: VoiceTask, model: Any, batch: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(VoiceTask, "forward", forward)
    with pytest.raises(OutOfMemory, match=r"no memory for \d+ clips .*: lower data.batch_seconds"):
        train(settings)
    assert not checkpoints(Path(settings.run))


def test_intelligible_voices_rank_above_close_ones() -> None:
    hums = {"mcd_db": 5.5, "alignment": 0.1, "stop_failures": 1.0, "loss": 0.5}
    babbles = {"mcd_db": 5.0, "alignment": 0.7, "stop_failures": 0.9, "loss": 0.5}
    talks = {"mcd_db": 7.5, "alignment": 0.6, "stop_failures": 0.0, "loss": 0.9}
    better = {"mcd_db": 7.0, "alignment": 0.5, "stop_failures": 0.1, "loss": 0.8}

    def rank(figures: dict[str, float], select: str) -> tuple[Any, ...]:
        task = VoiceTask.__new__(VoiceTask)
        task.config = load_config("smoke", [f"train.select={select}"])
        return task.rank(figures)

    for select in ("mcd_db", "alignment", "loss"):
        assert rank(talks, select) > max(rank(hums, select), rank(babbles, select))
    assert rank(better, "mcd_db") > rank(talks, "mcd_db")
    assert rank(better, "alignment") < rank(talks, "alignment")


def test_commit_is_null_without_git_or_without_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    ).stdout.strip()
    assert model_card.commit() == (head or None)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        assert model_card.commit() is None
    monkeypatch.setattr(model_card, "__file__", str(tmp_path / "tacoskip" / "training" / "a.py"))
    assert model_card.commit() is None
