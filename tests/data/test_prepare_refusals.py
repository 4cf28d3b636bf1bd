"""Corpora, settings and folders that prepare refuses, and what a prepared folder is for."""

import json
from pathlib import Path

import pytest

from tacoskip.audio import AudioSettings
from tacoskip.data.errors import CorpusError, LayoutError
from tacoskip.data.prepared import PreparedCorpus, prepared_dir
from tacoskip.data.settings import DataSettings


def test_corpus_without_a_good_clip_is_an_error(tmp_path, make, run):
    root = make.corpus(tmp_path / "corpus", make.words(3))
    for path in (root / "wavs").iterdir():
        path.write_text("no sound")
    said = r"no clip .* is left \(undecodable\): see .*report\.json; the first: .*c000\.wav: "
    with pytest.raises(CorpusError, match=said) as error:
        run(root)
    assert "\n" not in str(error.value)
    report = json.loads((tmp_path / "prepared" / "report.json").read_text())
    assert len(report["dropped"]) == 3
    with pytest.raises(CorpusError, match="tacoskip prepare"):
        PreparedCorpus(tmp_path / "prepared")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corpus": "ljspech"}, "unknown data.corpus 'ljspech'; did you mean 'ljspeech'"),
        ({"corpus": "no_such_module:Mine"}, "cannot use data.corpus=no_such_module:Mine"),
        ({"corpus": "json:JSONDecoder"}, r"expected a subclass of tacoskip\.data\.corpora\.Corpus"),
        ({"subset": "dev-clean"}, "data.corpus=folder has no data.subset"),
        ({"corpus": "fsdd", "columns": "text=a"}, "data.corpus=fsdd has no data.columns"),
        ({"speaker": "speker"}, "unknown speaker 'speker' in data.speaker; did you mean 'speaker'"),
        ({"max_seconds": 0.0}, "data.max_seconds"),
        ({"limit": -1}, "data.limit"),
    ],
)
def test_wrong_settings_are_refused(corpus, run, settings, message):
    with pytest.raises(ValueError, match=message):
        run(corpus, **settings)


def test_root_must_be_a_folder(run, tmp_path):
    with pytest.raises(CorpusError, match="nowhere"):
        run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"data\.root"):
        run("", corpus="folder")


def test_dir_that_is_a_file_is_refused(corpus, run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LayoutError, match=r"cannot write .*: a file is in its place"):
        run(corpus, dir=str(tmp_path / "file" / "prepared"))


@pytest.mark.parametrize("name", ["dir", "shards"])
def test_root_is_never_written_to(corpus, run, name):
    before = sorted(corpus.rglob("*"))
    with pytest.raises(ValueError, match=rf"data\.{name}=.* is data\.root, which is only read"):
        run(corpus, **{name: f"{corpus}/wavs/.."})
    assert sorted(corpus.rglob("*")) == before


def test_missing_corpus_names_the_command(tmp_path, make):
    settings = DataSettings(corpus="folder", root="corpus", dir=str(tmp_path / "none"))
    said = r"no prepared corpus in .*none, or one of another version \(run: tacoskip prepare, "
    with pytest.raises(CorpusError, match=said):
        PreparedCorpus.of(make.config(settings, AudioSettings()))


def test_a_table_without_rows(tmp_path, run):
    (tmp_path / "metadata.csv").write_text("\n")
    with pytest.raises(LayoutError, match=r"expected clips in .*, found none$"):
        run(tmp_path)
    assert not (tmp_path / "prepared").exists()


def test_too_few_clips_to_train_on(tmp_path, make, run):
    report = run(make.corpus(tmp_path / "corpus", make.words(1)))
    assert report.splits == {"train": 1, "validation": 0, "test": 0}
    assert any("1 clips are too few to train on" in warning for warning in report.warnings)
    assert not len(PreparedCorpus(report.dir).validation)
    settings = DataSettings(corpus="folder", root=str(tmp_path / "corpus"), dir=str(report.dir))
    with pytest.raises(ValueError, match="has 1 clips to train and 0 to validate with: take more"):
        PreparedCorpus.of(make.config(settings, make.audio))


def test_full_disk_is_a_corpus_error(corpus, run, monkeypatch):
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tacoskip.data.checks.write_whole", full)
    with pytest.raises(CorpusError, match="No space left"):
        run(corpus)


def test_folders_of_different_settings_differ(tmp_path, make):
    def folder(rate: int = 8000, **settings: object) -> Path:
        data = DataSettings(corpus="fsdd", **settings)
        return prepared_dir(make.config(data, AudioSettings(sample_rate=rate)))

    assert folder() == Path("data/fsdd")
    others = [folder(root=str(tmp_path)), folder(limit=10), folder(16000), folder(max_seconds=9.0)]
    others += [folder(speaker="theo"), folder(speaker="theo,jackson")]
    assert len({folder(), *others}) == 7
    assert folder(batch_seconds=5.0, join=[1, 3], workers=4, speaker="-theo") == folder()
    assert folder(speaker="jackson, theo") == folder(speaker="theo,jackson")
    assert folder(dir=str(tmp_path / "x")) == tmp_path / "x"
    outside = make.config(DataSettings(corpus="mine:Mine"), make.audio)
    assert prepared_dir(outside).name.startswith("Mine-"), "and nothing is imported"


def test_folder_prepared_for_another_corpus_is_refused(corpus, run, make):
    report = run(corpus)
    data = DataSettings(corpus="folder", dir=str(report.dir))
    clips = PreparedCorpus.of(make.config(data, make.audio)).train
    assert clips == PreparedCorpus(report.dir).train
    with pytest.raises(CorpusError, match="expected folder at 22050 Hz"):
        PreparedCorpus.of(make.config(data, AudioSettings()))


def test_corpus_of_another_version_must_be_prepared_again(corpus, run):
    folder = run(corpus).dir
    report = json.loads((folder / "report.json").read_text())
    report["format"] = "tacoskip corpus 1"
    (folder / "report.json").write_text(json.dumps(report))
    with pytest.raises(CorpusError, match=r"or one of another version \(run: tacoskip pre"):
        PreparedCorpus(folder)
    assert run(corpus).done == 0
    assert PreparedCorpus(folder).train


def test_prepared_folder_opens_as_root(corpus, run, make):
    report = run(corpus)
    data = DataSettings(corpus="folder", root=str(report.dir))
    opened = PreparedCorpus.of(make.config(data, make.audio))
    assert opened.train == PreparedCorpus(report.dir).train
    with pytest.raises(ValueError, match="is prepared already: train on it"):
        run(report.dir)
