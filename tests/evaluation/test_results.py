"""What evaluations share: finding the corpus, choosing clips, intervals, metrics.json."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tacoskip.config import Config, load_config
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepare import prepare
from tacoskip.evaluation.results import (
    choose_clips,
    metrics_path,
    open_corpus,
    summarize,
    write_metrics,
)


@pytest.fixture
def project(tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a corpus was prepared by relative paths."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "recordings").symlink_to(tiny_corpus)
    monkeypatch.chdir(folder)
    prepare(_config())
    return folder


def _config(**data: str) -> Config:
    config = load_config("smoke", ["data.root=recordings"])
    return replace(config, data=replace(config.data, **data))


def test_corpus_is_found_from_another_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = project / "runs" / "smoke" / "checkpoints" / "best.pt"
    outside = tmp_path / "elsewhere" / "smoke" / "checkpoints" / "best.pt"
    outside.parent.mkdir(parents=True)
    environment = {"folder": str(project)}
    (outside.parent.parent / "environment.json").write_text(json.dumps(environment))
    expected = open_corpus(_config(), inside)
    monkeypatch.chdir(tmp_path)
    for checkpoint in (inside, outside):
        assert open_corpus(_config(), checkpoint).checksum() == expected.checksum()
    with pytest.raises(CorpusError, match="no prepared corpus in data/folder"):
        open_corpus(_config(), tmp_path / "elsewhere" / "other" / "checkpoints" / "best.pt")


def test_limit_spreads_over_the_split(project: Path) -> None:
    corpus = open_corpus(_config(), project / "none.pt")
    every = [clip.id for clip in choose_clips(corpus, "train")]
    assert every == sorted(every) and len(every) > 6
    assert [clip.id for clip in choose_clips(corpus, "train", 2)] == [
        every[0],
        every[len(every) // 2],
    ]


def test_checkpoint_outside_a_run_gets_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("another file")
    write_metrics(tmp_path / "voice.pt", "test", {"n": 1})
    assert metrics_path(tmp_path / "voice.pt") == tmp_path / "voice.metrics.json"
    assert json.loads((tmp_path / "voice.metrics.json").read_text()) == {"test": {"n": 1}}
    assert (tmp_path / "metrics.json").read_text() == "another file"


def test_interval_is_that_of_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).gamma(2.0, size=60)
    expected = bootstrap(
        (values,), np.mean, method="percentile", n_resamples=2000, rng=np.random.default_rng(2)
    ).confidence_interval
    found = summarize([*values, math.nan])
    assert found["n"] == 60 and found["mean"] == pytest.approx(values.mean())
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected), abs=0.05)


@pytest.mark.hostile
def test_metrics_of_evaluations_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000001.pt"
    checkpoint.parent.mkdir(parents=True)
    names = [f"test {number}" for number in range(16)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: write_metrics(checkpoint, name, {"wer": 0.1}), names))
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()).keys() == set(names)
