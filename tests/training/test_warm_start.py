"""A run that starts from the weights of another."""

import json
from pathlib import Path

import pytest
import torch

from tacoskip.config import Config, load_arguments, to_dict
from tacoskip.run_folder import (
    Checkpoint,
    RunError,
    build_network,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from tacoskip.text import Tokenizer
from tacoskip.training import train
from tacoskip.training.state import TrainingState, WeightAverage
from tacoskip.training.warm_start import load_start, start_from

from .conftest import Prepared


@pytest.fixture
def settings(prepared: Prepared) -> Config:
    return prepared("smoke")


def test_run_starts_from_the_weights_of_another(settings: Config, tmp_path: Path) -> None:
    settings.train.max_steps, settings.train.sentences = 1, []
    settings.train.learning_rate = 1e-12
    train(settings)
    settings.from_run, settings.run, settings.seed = settings.run, str(tmp_path / "tuned"), 5
    lines: list[str] = []
    train(settings, lambda progress: lines.append(progress.message))
    first, tuned = (
        load_checkpoint(checkpoints(Path(run))[-1]) for run in (settings.from_run, settings.run)
    )
    torch.testing.assert_close(
        tuned.weights["encoder.embedding.weight"], first.weights["encoder.embedding.weight"]
    )
    assert tuned.step == 1, "counters and the optimizer begin anew"
    (line,) = [line for line in lines if line.startswith("started from")]
    assert "start anew" not in line
    environment = json.loads((Path(settings.run) / "environment.json").read_text())
    assert environment["started_from"] == line
    assert line in (Path(settings.run) / "README.md").read_text()
    lines.clear()
    settings.train.max_steps = 2  # the same command resumes, and says still where it began
    train(settings, lambda progress: lines.append(progress.message))
    assert not any(line.startswith("started from") for line in lines)
    environment = json.loads((Path(settings.run) / "environment.json").read_text())
    assert environment["started_from"] == line


class Fresh:
    """A task with a network of its own, as far as a warm start needs it."""

    def __init__(self, config: Config, speakers: list[str]) -> None:
        self.config, self.speakers = config, speakers
        self.encoder = Tokenizer(config.text)
        self.model = build_network(config, len(self.encoder), len(speakers))


def test_rows_of_symbols_and_speakers_are_copied_by_name(tmp_path: Path) -> None:
    old = Fresh(load_arguments(["recipe=smoke", "data.root=."]), ["ann", "bob", "eve"])
    path = tmp_path / "old.pt"
    weights = old.model.state_dict()
    save_checkpoint(
        Checkpoint(to_dict(old.config), old.speakers, len(old.encoder), 5.0, 7, weights, {}), path
    )
    arguments = ["recipe=smoke", "data.root=.", f"from={path}", "cbhg.channels=10"]
    new = Fresh(load_arguments([*arguments, "text.symbols=phonemes"]), ["eve", "zoe"])
    before = new.model.state_dict()["speakers.weight"].clone()
    state = TrainingState(
        model=new.model,
        optimizer=torch.optim.SGD(new.model.parameters()),
        average=WeightAverage(new.model),
        batches=None,  # type: ignore[arg-type]
        scaler=None,
    )
    start_from(new, state, load_start(new.config))  # type: ignore[arg-type]
    line = state.started_from
    found = new.model.state_dict()
    torch.testing.assert_close(found["speakers.weight"][0], weights["speakers.weight"][2])
    torch.testing.assert_close(found["speakers.weight"][1], before[1])
    for symbol in ("a", "s", ",", " "):
        rows = [each.encoder.symbols.index(symbol) for each in (new, old)]
        table = "encoder.embedding.weight"
        torch.testing.assert_close(found[table][rows[0]], weights[table][rows[1]])
    torch.testing.assert_close(state.average.weights, found)
    assert line.startswith(f"started from {path} at step 7: ") and "\n" not in line
    assert "start anew: " in line and "rows of encoder.embedding.weight" in line


def test_what_cannot_be_started_from_is_refused_in_one_line(
    settings: Config, tmp_path: Path
) -> None:
    config = load_arguments(["recipe=smoke", "data.root=.", "from=nowhere"])
    with pytest.raises(RunError, match=r"from=nowhere: no run folder or checkpoint 'nowhere'"):
        load_start(config)
    voice = Fresh(config, ["a"])
    for name, recipe, weight, message in (
        ("task", "smoke_asr", 0.0, "expected task=asr, got task=tts"),
        ("nan", "smoke", float("nan"), "not finite"),
    ):
        weights = {key: value + weight for key, value in voice.model.state_dict().items()}
        path = tmp_path / f"{name}.pt"
        save_checkpoint(
            Checkpoint(to_dict(config), ["a"], len(voice.encoder), 5.0, 7, weights, {}), path
        )
        with pytest.raises(RunError, match=message):
            load_start(load_arguments([f"recipe={recipe}", "data.root=.", f"from={path}"]))
