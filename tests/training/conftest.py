"""Settings of a short run on the tiny corpus."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tacoskip.config import Config, load_config
from tacoskip.data.prepare import prepare

Prepared = Callable[[str], Config]


@pytest.fixture
def prepared(tiny_corpus: Path, tmp_path: Path) -> Prepared:
    """A recipe's settings for a few steps on the tiny corpus, which is prepared."""

    def settings(recipe: str) -> Config:
        config = load_config(
            recipe,
            [
                *(f"data.root={tiny_corpus}", f"data.dir={tmp_path / 'data'}"),
                *(f"run={tmp_path / 'run'}", "train.device=cpu", "train.decay_steps=100"),
                *("train.evaluate_every=3", "data.validation=3", "data.test=2"),
            ],
        )
        prepare(config)
        return config

    return settings
