"""A corpus from outside the package: docs/examples/my_corpus.py, by its module."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tacoskip
from tacoskip.cli import app
from tacoskip.config import load_config
from tacoskip.data.corpora import find_corpus
from tacoskip.data.prepared import PreparedCorpus

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
MODULE = "my_corpus:Book"


@pytest.fixture
def book(tmp_path: Path, make, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the example reads it; the example's module can be imported."""
    root = tmp_path / "around" / "book"
    make.wavs(root, make.words(16))
    (root / "wavs").rename(root / "sounds")
    lines = [f"{id}: {text}\n" for id, text in make.words(16)]
    (root / "book.txt").write_text("".join([*lines, "no colon\n", "../../x: out\n"]))
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delitem(sys.modules, "my_corpus", raising=False)
    return root


def pairs(book: Path, tmp_path: Path, corpus: str = MODULE) -> list[str]:
    settings = [f"data.corpus={corpus}", f"data.root={book}", f"data.dir={tmp_path / 'prepared'}"]
    return [*settings, "data.validation=2", "data.test=2"]


@pytest.mark.usefixtures("undrawn")
def test_corpus_of_a_module_is_prepared_and_trained_on(book: Path, tmp_path: Path) -> None:
    settings = pairs(book, tmp_path)
    prepared = CliRunner().invoke(app, ["prepare", "recipe=smoke", *settings])
    assert prepared.exit_code == 0, prepared.stderr
    assert "16" in prepared.stdout and "bad_row" in prepared.stdout
    assert f"data.corpus={MODULE} is code from" in prepared.stderr
    run = ["recipe=smoke", *settings, f"run={tmp_path / 'run'}", "train.max_steps=2"]
    trained = CliRunner().invoke(app, ["train", *run, "train.evaluate_every=2"])
    assert trained.exit_code == 0, trained.stderr
    assert (tmp_path / "run" / "checkpoints").is_dir()


def test_opening_a_prepared_corpus_imports_nothing(book: Path, tmp_path: Path) -> None:
    """What a checkpoint's config names is not run: only `prepare` imports."""
    config = load_config("smoke", pairs(book, tmp_path))
    report = tacoskip.prepare(config, jobs=1)
    assert (report.kept, report.reasons()) == (16, {"bad_row": 1, "leaves_corpus": 1})
    assert report.licence == "CC0"
    del sys.modules["my_corpus"]
    assert len(PreparedCorpus.of(config).train) == 12
    assert "my_corpus" not in sys.modules


def test_corpus_without_a_reader_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from tacoskip.data.corpora import Corpus\n\nclass Empty(Corpus):\n    name = 'empty'\n"
    (tmp_path / "empty_corpus.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"cannot use data\.corpus=empty_corpus:Empty.*read"):
        find_corpus("empty_corpus:Empty")
