"""Settings of a short run on the tiny corpus, and a run that a signal interrupts."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tacoskip.config import Config, load_config
from tacoskip.data.prepare import prepare
from tacoskip.training import Progress, train

Prepared = Callable[[str], Config]


@pytest.fixture
def pictures() -> None:
    """Asks for the pictures for TensorBoard, which other tests here do without."""


@pytest.fixture(autouse=True)
def without_pictures(request: pytest.FixtureRequest) -> None:
    if "pictures" not in request.fixturenames:
        request.getfixturevalue("undrawn")


@pytest.fixture
def prepared(tiny_corpus: Path, tmp_path: Path) -> Prepared:
    """A recipe's settings for a few steps on the tiny corpus, which is prepared."""

    def settings(recipe: str) -> Config:
        config = load_config(
            recipe,
            [
                *(f"data.root={tiny_corpus}", f"data.dir={tmp_path / 'data'}"),
                *(f"run={tmp_path / 'run'}", "train.device=cpu"),
                *("train.evaluate_every=3", "data.validation=3", "data.test=2"),
            ],
        )
        prepare(config)
        return config

    return settings


def train_until(
    config: Config, step: int, on_progress: Callable[[Progress], None] = lambda _: None
) -> None:
    """Train, and interrupt the run with a signal once it has made `step` steps."""

    def interrupt(progress: Progress) -> None:
        on_progress(progress)
        if progress.scalars and progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    config.train.log_every = 1
    with pytest.raises(KeyboardInterrupt):
        train(config, interrupt)
