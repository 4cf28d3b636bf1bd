"""Readers of corpora: tables as people really write them, and layouts as they are published."""

from pathlib import Path

import pytest

from tacoskip.data.corpora import find_corpus
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepare import read_utterances
from tacoskip.data.settings import DataSettings
from tacoskip.data.utterance import Notes, Utterance


def read(corpus: str, root: Path, **settings: str) -> tuple[dict[str, Utterance], Notes]:
    data = DataSettings(corpus=corpus, **settings)
    found, notes = read_utterances(find_corpus(corpus), root.resolve(), data)
    return {utterance.id: utterance for utterance in found}, notes


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_ljspeech_and_its_third_column(tmp_path):
    touch(tmp_path, "wavs/LJ001-0001.wav")
    (tmp_path / "metadata.csv").write_text(
        'LJ001-0001|Chapter 4, "so"|Chapter four, "so"\nLJ001-0002|in 1450.|\nLJ001-0003|alone\n'
    )
    found, notes = read("ljspeech", tmp_path)
    assert found["LJ001-0001"].text == 'Chapter 4, "so"'
    assert found["LJ001-0001"].normalized == 'Chapter four, "so"'
    assert found["LJ001-0002"].normalized is None
    assert found["LJ001-0003"].normalized is None
    assert {u.speaker for u in found.values()} == {"LJ"} and not notes.dropped


def test_windows_table(tmp_path):
    """A BOM, CRLF, blank lines and a byte of cp1252."""
    raw = "\ufeffa|caf\u00e9 one\r\n\r\nb|two\r\n".encode() + b"c|caf\xe9 three\r\n  \r\nd|four"
    (tmp_path / "metadata.csv").write_bytes(raw)
    found, notes = read("folder", tmp_path)
    assert [u.text for u in found.values()] == ["café one", "two", "café three", "four"]
    assert list(found) == ["a", "b", "c", "d"]
    assert notes.warnings == ["metadata.csv: 1 lines are not UTF-8, read as cp1252"]


def test_utf16_table(tmp_path):
    (tmp_path / "metadata.csv").write_bytes("a|café\r\nb|two\r\n".encode("utf-16"))
    assert [u.text for u in read("folder", tmp_path)[0].values()] == ["café", "two"]


def test_rows_of_a_wrong_shape_are_noted(tmp_path):
    (tmp_path / "metadata.csv").write_text("id|text\na|one\nb\nc|1|2|3\n|no id\nd|four\n")
    found, notes = read("folder", tmp_path)
    assert list(found) == ["a", "d"]
    assert [(d.id, d.reason) for d in notes.dropped] == [
        ("b", "bad_row"),
        ("c", "bad_row"),
        ("", "bad_row"),
    ]
    assert "line 3" in notes.dropped[0].detail and "got 4" in notes.dropped[1].detail
    (tmp_path / "metadata.csv").write_text(".|a dot\n")
    assert read("folder", tmp_path)[0]["."].text == "a dot"


@pytest.mark.parametrize("id", ["../../etc/passwd", "/etc/passwd", "a/../../../x"])
def test_ids_that_leave_the_corpus(tmp_path, id):
    (tmp_path / "metadata.csv").write_text(f"{id}|text\n")
    found, notes = read("folder", tmp_path)
    assert not found and [d.reason for d in notes.dropped] == ["leaves_corpus"]
    assert not id.startswith("..") or "leads out" in notes.dropped[0].detail


def test_links_are_followed_inside_only(tmp_path):
    root = touch(tmp_path / "corpus", "wavs/real.wav")
    touch(tmp_path, "secret.wav")
    (root / "wavs" / "inside.wav").symlink_to("real.wav")
    (root / "wavs" / "outside.wav").symlink_to(tmp_path / "secret.wav")
    (root / "wavs" / "loop.wav").symlink_to("loop.wav")
    (root / "metadata.csv").write_text("inside|one\noutside|two\nloop|three\n")
    found, notes = read("folder", root)
    assert "inside" in found and "outside" not in found
    assert "outside" in {d.id for d in notes.dropped if d.reason == "leaves_corpus"}
    # the corpus itself may be a link
    (tmp_path / "alias").symlink_to(root)
    assert "inside" in read("folder", tmp_path / "alias")[0]


def test_audio_of_other_kinds_and_places(tmp_path):
    touch(tmp_path, "wavs/a.flac", "b.ogg", "wavs/sub/c.wav")
    (tmp_path / "metadata.csv").write_text("a|one\nb|two\nsub/c|three\nd|four\n")
    found, _ = read("folder", tmp_path)
    names = {id: str(u.path.relative_to(tmp_path)) for id, u in found.items()}
    assert names == {
        "a": "wavs/a.flac",
        "b": "b.ogg",
        "sub/c": "wavs/sub/c.wav",
        "d": "wavs/d.wav",
    }


@pytest.mark.parametrize(
    ("name", "delimiter"), [("metadata.csv", ","), ("metadata.csv", ";"), ("clips.tsv", "\t")]
)
def test_table_with_a_header(tmp_path, name, delimiter):
    rows = [
        ["Text", "path", "speaker", "extra"],
        ['"one, ""two"""' if delimiter in ",;" else "one, two", "x/a.wav", "ann", "1"],
        ["three", "x\\b.wav", "", "2"],
        ["too few", "x/c.wav"],
        ["", "", "", ""],
        ["five", "../../e.wav", "bob", "3"],
        ["zero byte", "a\0b", "", "4"],
    ]
    (tmp_path / name).write_text("\r\n".join(delimiter.join(row) for row in rows))
    found, notes = read("folder", tmp_path)
    assert list(found) == ["x/a", "x/b"]
    assert found["x/a"].text == ('one, "two"' if delimiter in ",;" else "one, two")
    assert (found["x/a"].speaker, found["x/b"].speaker) == ("ann", "speaker")
    assert [d.reason for d in notes.dropped] == ["bad_row", "bad_row", "leaves_corpus"]


def test_absolute_paths_inside_the_corpus(tmp_path):
    root = touch(tmp_path / "corpus", "x/a.wav", "x/b.wav")
    (tmp_path / "alias").symlink_to(root)
    rows = [root / "x/a.wav", tmp_path / "alias" / "x/b.wav", tmp_path / "c.wav"]
    (root / "metadata.csv").write_text("path,text\n" + "".join(f"{row},one\n" for row in rows))
    found, notes = read("folder", root)
    assert list(found) == ["x/a", f"{tmp_path}/alias/x/b"]
    assert [d.reason for d in notes.dropped] == ["leaves_corpus"]


def test_text_over_two_lines(tmp_path):
    (tmp_path / "metadata.csv").write_text('path,text\na.wav,"one\ntwo"\nb.wav,three\n')
    found, _ = read("folder", tmp_path)
    assert found["a"].text.split() == ["one", "two"] and found["b"].text == "three"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "found none"),
        (
            {"metadata.csv": "a,one\n"},
            r"columns path and text, found a, one; name them: data\.columns=",
        ),
        ({"metadata.csv": "|\n"}, "expected clips in"),
        ({"metadata.csv": ",\n"}, "columns path and text, found none"),
        ({"a.csv": "path,text\n", "b.csv": "path,text\n"}, r"found a\.csv, b\.csv"),
    ],
)
def test_folders_without_a_usable_table(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CorpusError, match=message):
        read("folder", tmp_path)


@pytest.mark.parametrize("delimiter", ["|", "\t", ";", ","])
def test_table_without_header(tmp_path, delimiter):
    touch(tmp_path, "wavs/a.wav", "wavs/b.wav")
    rows = [("a", "one"), ("b.wav", "two"), ("gone", "three")]
    (tmp_path / "metadata.csv").write_text("\n".join(delimiter.join(row) for row in rows))
    found, _ = read("folder", tmp_path)
    assert {id: u.text for id, u in found.items()} == {"a": "one", "b.wav": "two", "gone": "three"}
    assert [u.path.name for u in found.values()] == ["a.wav", "b.wav", "gone.wav"]


def test_unknown_header_is_no_row_of_a_table_without_header(tmp_path):
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "list.csv").write_text("file,sentence,who\na.wav,one,ann\nb.wav,two,bob\n")
    with pytest.raises(CorpusError, match="found file, sentence, who; name them"):
        read("folder", tmp_path)  # who is no normalized text


def test_semicolons_and_commas_in_the_text_of_another_delimiter(tmp_path):
    touch(tmp_path, "wavs/a.wav")
    (tmp_path / "metadata.csv").write_text("a\tone; two, three\n")
    assert read("folder", tmp_path)[0]["a"].text == "one; two, three"
    (tmp_path / "metadata.csv").write_text('a,"one; two"\n')
    assert read("folder", tmp_path)[0]["a"].text == "one; two"


def test_commas_without_quotes_do_not_cut_a_text(tmp_path):
    touch(tmp_path, "wavs/a.wav", "wavs/b.wav")
    (tmp_path / "metadata.csv").write_text("a,one two\nb,three, four\n")
    found, notes = read("folder", tmp_path)
    assert list(found) == ["a"]
    assert notes.dropped[0].detail == "line 2: expected id, text, got 3 columns"
    (tmp_path / "metadata.csv").write_text("a,one 2,one two\nb,3,three\n")
    found, _ = read("folder", tmp_path)
    assert [u.normalized for u in found.values()] == ["one two", "three"]


def test_named_column_replaces_one_of_its_field(tmp_path):
    (tmp_path / "metadata.csv").write_text("path|clean|text\na|one|1.\n")
    assert read("folder", tmp_path, columns="text=clean")[0]["a"].text == "one"


def test_names_from_other_systems(tmp_path):
    """A recorder's upper case, accents as macOS writes them, its files of attributes."""
    (tmp_path / "metadata.csv").write_text("a|one\nmünchen|two\ngone.wav|three\n", "utf-8")
    touch(tmp_path, "wavs/a.WAV", "wavs/mu\u0308nchen.wav")
    found, _ = read("folder", tmp_path)
    names = ["a.WAV", "mu\u0308nchen.wav", "gone.wav"]
    assert [u.path.name for u in found.values()] == names
    touch(tmp_path, "pairs/a.wav", "pairs/a.txt", "pairs/._a.wav", "pairs/._a.txt")
    assert list(read("folder", tmp_path / "pairs")[0]) == ["a"]


COMMON_VOICE = "client_id\tpath\tsentence\tage\nu1\tx.mp3\tone\t30\nu2\ty.mp3\ttwo\t\n"


def test_columns_maps_a_table_with_other_names(tmp_path):
    touch(tmp_path, "clips/x.mp3", "clips/y.mp3")
    (tmp_path / "train.tsv").write_text(COMMON_VOICE)
    with pytest.raises(CorpusError, match=r"found client_id, path, sentence, age; name them: data"):
        read("folder", tmp_path)
    found, notes = read("folder", tmp_path, columns="text=sentence, speaker=client_id")
    assert [(u.id, u.path.name, u.text, u.speaker) for u in found.values()] == [
        ("x", "x.mp3", "one", "u1"),
        ("y", "y.mp3", "two", "u2"),
    ]
    assert not notes.dropped


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("text=satz", "no column 'satz', found client_id, path, sentence, age"),
        ("words=sentence", "with a field of path, text, speaker, id, normalized, got 'words=sen"),
        ("sentence", "FIELD=COLUMN"),
    ],
)
def test_wrong_columns_are_named(tmp_path, columns, message):
    (tmp_path / "train.tsv").write_text(COMMON_VOICE)
    with pytest.raises(ValueError, match=message):
        read("folder", tmp_path, columns=columns)


def test_folder_of_wav_and_txt_pairs(tmp_path):
    touch(tmp_path, "ann/a.wav", "ann/b.flac", "bob/c.wav", "bob/notes.txt")
    (tmp_path / "ann" / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "bob" / "c.txt").write_text("three")
    found, notes = read("folder", tmp_path)
    assert {id: (u.text, u.speaker) for id, u in found.items()} == {
        "ann/a": ("one two", "ann"),
        "bob/c": ("three", "bob"),
    }
    assert [(d.id, d.reason, d.detail) for d in notes.dropped] == [
        ("ann/b", "no_text", "no b.txt beside it")
    ]
    assert read("folder", tmp_path / "bob")[0]["c"].speaker == "speaker"


def test_arctic_with_a_table_per_speaker(tmp_path):
    for speaker in ("slt", "bdl"):
        touch(tmp_path, f"{speaker}/wavs/arctic_a0001.flac")
        (tmp_path / speaker / "metadata.csv").write_text("arctic_a0001|One, two.\n")
    found, _ = read("arctic", tmp_path)
    assert {id: (u.speaker, u.sentence) for id, u in found.items()} == {
        "bdl_arctic_a0001": ("bdl", "arctic_a0001"),
        "slt_arctic_a0001": ("slt", "arctic_a0001"),
    }
    assert read("arctic", tmp_path / "slt")[0].keys() == {"slt_arctic_a0001"}


def test_arctic_as_festvox_packs_it(tmp_path):
    base = touch(tmp_path, "slt/cmu_us_slt_arctic/wav/arctic_a0001.wav") / "slt/cmu_us_slt_arctic"
    (base / "etc").mkdir()
    prompts = "( arctic_a0001 \"Author of the 'danger' trail.\" )\nnonsense\n"
    (base / "etc" / "txt.done.data").write_text(prompts)
    found, notes = read("arctic", tmp_path)
    assert found["slt_arctic_a0001"].text == "Author of the 'danger' trail."
    assert found["slt_arctic_a0001"].path == base / "wav/arctic_a0001.wav"
    assert [d.reason for d in notes.dropped] == ["bad_row"]
    with pytest.raises(CorpusError, match=r"expected SPEAKER/metadata\.csv"):
        read("arctic", touch(tmp_path / "empty", "a"))


def test_genuine_arctic(recordings):
    found, notes = read("arctic", recordings / "arctic")
    assert len(found) == 3 * 1072 and not notes.dropped
    assert len({u.sentence for u in found.values()}) == 1072
    assert {u.speaker for u in found.values()} == {"slt", "bdl", "kathleen"}


def test_fsdd(tmp_path):
    touch(tmp_path, *(f"recordings/{n}.wav" for n in ("7_jackson_3", "0_theo_5", "x_y", "1_a_b_2")))
    found, notes = read("fsdd", tmp_path)
    assert {id: (u.text, u.speaker, u.split) for id, u in found.items()} == {
        "0_theo_5": ("zero", "theo", None),
        "7_jackson_3": ("seven", "jackson", "test"),
    }
    assert {d.id for d in notes.dropped} == {"x_y", "1_a_b_2"}


@pytest.mark.parametrize("inner", ["", "VCTK-Corpus-0.92/"])
def test_vctk(tmp_path, inner):
    touch(
        tmp_path,
        f"{inner}wav48_silence_trimmed/p225/p225_001_mic1.flac",
        f"{inner}wav48_silence_trimmed/p225/p225_001_mic2.flac",
        f"{inner}txt/p225/p225_001.txt",
        f"{inner}txt/p225/p225_002.txt",
    )
    (tmp_path / inner / "txt/p225/p225_001.txt").write_text("Please call Stella.\n")
    found, _ = read("vctk", tmp_path)
    assert found["p225_001"].text == "Please call Stella."
    assert found["p225_001"].path.name == "p225_001_mic1.flac"
    assert found["p225_001"].speaker == "p225"
    assert not found["p225_002"].path.exists()  # prepare reports it as missing
    with pytest.raises(CorpusError, match="txt/"):
        read("vctk", touch(tmp_path / "empty", "a"))


def test_vctk_080(tmp_path):
    touch(tmp_path, "VCTK-Corpus/wav48/p226/p226_003.wav", "VCTK-Corpus/txt/p226/p226_003.txt")
    assert read("vctk", tmp_path)[0]["p226_003"].path.name == "p226_003.wav"


def test_librispeech(tmp_path):
    parts = {"train-clean-100": "19/198", "dev-clean": "84/121", "test-clean": "61/70"}
    for part, place in parts.items():
        speaker, chapter = place.split("/")
        folder = touch(tmp_path, f"LibriSpeech/{part}/{place}/x") / "LibriSpeech" / part / place
        id = f"{speaker}-{chapter}-0000"
        (folder / f"{speaker}-{chapter}.trans.txt").write_text(f"{id} A WORD OR TWO\n\n")
    found, _ = read("librispeech", tmp_path)
    assert {u.id: (u.speaker, u.split) for u in found.values()} == {
        "19-198-0000": ("19", None),
        "84-121-0000": ("84", "validation"),
        "61-70-0000": ("61", "test"),
    }
    assert found["19-198-0000"].text == "A WORD OR TWO"
    assert found["19-198-0000"].path.parent.name == "198"
    assert list(read("librispeech", tmp_path, subset="test-clean")[0]) == ["61-70-0000"]
    with pytest.raises(CorpusError, match="train-other-500"):
        read("librispeech", tmp_path, subset="train-other-500")


def test_genuine_ljspeech(recordings):
    found, notes = read("ljspeech", recordings / "LJSpeech-100")
    assert len(found) == 90 and not notes.dropped and not notes.warnings
    assert all(u.path.exists() and u.normalized for u in found.values())
