"""A data.root that is not laid out as its corpus: a wrong request, and what it says to do."""

from pathlib import Path

import pytest

from tacoskip.data.corpora import find_corpus
from tacoskip.data.errors import CorpusError, LayoutError
from tacoskip.data.prepare import read_utterances
from tacoskip.data.prepared import is_prepared
from tacoskip.data.settings import DataSettings

# What stands in each folder.
FOLDERS = {
    "empty": (),
    "table": ("metadata.csv",),
    "digits": ("recordings/1_theo_5.wav",),
    "others": ("hello.wav", "world.wav"),
    "vctk": ("txt/p225/p225_001.txt",),
    "libri": ("dev-clean/1/2/1-2.trans.txt",),
    "prepared": ("report.json", "train.jsonl.gz"),
    "two": ("a.tsv", "b.tsv"),
}


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    for name in FOLDERS[request.param]:
        path = tmp_path / request.param / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / request.param).mkdir(exist_ok=True)
    return tmp_path / request.param


@pytest.mark.parametrize(
    ("corpus", "folder", "said"),
    [
        ("folder", "empty", r"beside each ID\.wav in .*empty, found none$"),
        ("folder", "two", r"found a\.tsv, b\.tsv: rename one to metadata\.tsv$"),
        ("fsdd", "empty", r"expected DIGIT_SPEAKER_TAKE\.wav in .*empty, found none$"),
        ("fsdd", "others", r"found 2 other wavs$"),
        ("ljspeech", "vctk", r"expected metadata\.csv in .*vctk, found none$"),
        ("demo", "libri", r"expected metadata\.csv in .*libri, found none$"),
        ("vctk", "table", r"VCTK's folder txt/ .* found none$"),
        ("librispeech", "libri", r"part train-clean-100 .* found dev-clean: set data\.subset=$"),
        ("librispeech", "digits", r"part train-clean-100 .* found none$"),
    ],
    indirect=["folder"],
)
def test_other_layout_is_refused(corpus: str, folder: Path, said: str) -> None:
    with pytest.raises(LayoutError, match=said) as refused:
        read_utterances(find_corpus(corpus), folder, DataSettings(corpus=corpus))
    assert isinstance(refused.value, CorpusError) and isinstance(refused.value, ValueError)


@pytest.mark.parametrize("folder", ["prepared"], indirect=True)
def test_prepared_folder_is_recognized(folder: Path) -> None:
    assert is_prepared(folder)
    (folder / "train.jsonl.gz").unlink()
    assert not is_prepared(folder)


@pytest.mark.parametrize(
    "rows",
    [
        "audio_file|text|speaker_name\na|one two|ann\nb|three|bob\n",
        "Filename,Transcription,Who\na,one two,ann\nb,three,bob\n",
        "a|ann|one two\nb|bob|three\n",
        "a,one two,ann\nb,three,bob\n",
    ],
)
def test_columns_are_not_taken_for_others(tmp_path: Path, rows: str) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "metadata.csv").write_text(rows)
    with pytest.raises(LayoutError, match=r"name them: data\.columns=.* path\|text"):
        read_utterances(find_corpus("folder"), tmp_path, DataSettings(corpus="folder"))
