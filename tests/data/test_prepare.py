"""Preparing a corpus: what is kept, what is dropped and why, what a second run does."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tacoskip.audio import AudioSettings
from tacoskip.data import Corpus, CorpusError, DataSettings, PrepareReport, prepared_dir
from tacoskip.data.errors import LayoutError
from tacoskip.text import TextSettings


def reasons(report: PrepareReport) -> dict[str, str]:
    return {drop.id: drop.reason for drop in report.dropped}


def add(root: Path, id: str, text: str) -> Path:
    with (root / "metadata.csv").open("a", encoding="utf-8") as table:
        table.write(f"{id}|{text}\n")
    return root / "wavs" / f"{id}.wav"


def test_sound_corpus_is_kept_whole(corpus, run, make):
    report = run(corpus)
    assert (report.kept, report.dropped, report.warnings, report.done) == (24, [], [], 24)
    opened = Corpus(report.dir)
    assert sum(report.splits.values()) == 24
    assert len(opened.train) == report.splits["train"] and report.splits["train"] >= 20
    assert opened.speakers == ["speaker"] and opened.audio_sample_rate == make.rate
    assert opened.settings["audio"]["n_mels"] == make.audio.n_mels
    table = dict(make.words(24))
    for cut in [*opened.train, *opened.validation, *opened.test]:
        (supervision,) = cut.supervisions
        assert supervision.text == table[cut.id] == supervision.custom["normalized"]
        # lhotse itself reads what the manifest names
        wave = cut.load_audio()[0]
        assert len(wave) == cut.num_samples and cut.sampling_rate == make.rate


def test_prepared_folder_can_be_moved(corpus, run, tmp_path):
    report = run(corpus)
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    report.dir.rename(moved)
    cut = Corpus(moved).train[0]
    assert len(cut.load_audio()[0]) == cut.num_samples
    assert str(tmp_path / "elsewhere") in cut.recording.sources[0].source


def test_level_silence_and_offset(tmp_path, make, run):
    root = tmp_path / "corpus"
    make.wavs(root, [])
    speech = make.buzz(1.0)
    silence = 1e-5 * np.random.default_rng(0).standard_normal(4000)
    loud = np.concatenate([silence, speech * 2, silence]) + 0.05
    soundfile.write(root / "wavs" / "a.wav", loud, make.rate, subtype="FLOAT")
    soundfile.write(root / "wavs" / "b.wav", speech * 0.05, make.rate, subtype="FLOAT")
    (root / "metadata.csv").write_text("a|ten letters\nb|ten letters\n")
    report = run(root, level_db=-26.0)
    for name in ("a", "b"):
        wave, _ = soundfile.read(report.dir / "audio" / f"{name}.flac")
        assert 0.98 <= len(wave) / make.rate <= 1.16  # 50 ms of margin on either side, and frames
        assert 10 * np.log10(np.mean(wave**2)) == pytest.approx(-26.0, abs=0.05)
        assert abs(wave.mean()) < 1e-3
        assert soundfile.info(report.dir / "audio" / f"{name}.flac").subtype == "PCM_16"


def test_a_level_that_would_clip_is_lowered(corpus, run):
    report = run(corpus, level_db=-3.0)
    wave, _ = soundfile.read(report.dir / "audio" / "c000.flac")
    assert np.abs(wave).max() == pytest.approx(0.99, abs=1e-3)


def test_every_bad_clip_is_named_and_none_is_fatal(corpus, run, make, tmp_path):
    good = make.buzz(1.0)
    make.wavs(corpus, [])

    def write(id: str, wave: np.ndarray, rate: int = make.rate, **options: str) -> Path:
        path = add(corpus, id, "ten letters")
        soundfile.write(path, wave, rate, **options)
        return path

    expected = {
        "cut": "truncated",
        "text": "undecodable",
        "nan": "not_finite",
        "inf": "not_finite",
        "zero": "empty",
        "header": "empty",
        "gone": "missing",
        "folder": "missing",
        "hush": "silent",
        "offset": "silent",
        "square": "clipped",
        "tenminutes": "too_long",
        "long": "too_long",
        "blip": "too_short",
        "../../etc/passwd": "leaves_corpus",
        "/etc/passwd": "leaves_corpus",
        "link": "leaves_corpus",
        "mute": "no_speakable_text",
        "blank": "no_speakable_text",
        "rushed": "implausible_rate",
    }
    path = write("cut", good)
    path.write_bytes(path.read_bytes()[:9000])
    add(corpus, "text", "ten letters").write_text("this is no sound")
    write("nan", np.where(np.arange(len(good)) == 500, np.nan, good), subtype="FLOAT")
    write("inf", np.where(np.arange(len(good)) == 500, np.inf, good), subtype="FLOAT")
    add(corpus, "zero", "ten letters").write_bytes(b"")
    write("header", np.zeros(0))
    add(corpus, "gone", "ten letters")
    add(corpus, "folder", "ten letters").mkdir()
    write("hush", 1e-5 * good)
    write("offset", np.full(8000, 0.3))
    write("square", 0.99998 * np.sign(good))
    write("tenminutes", np.tile(good, 600))
    write("long", np.tile(good, 21))
    write("blip", good[:240])
    add(corpus, "../../etc/passwd", "ten letters")
    add(corpus, "/etc/passwd", "ten letters")
    outside = tmp_path / "outside.wav"
    soundfile.write(outside, good, make.rate)
    add(corpus, "link", "ten letters").symlink_to(outside)
    for id, text in (("mute", "¿ ☃ ?"), ("blank", ""), ("rushed", "ten letters " * 10)):
        soundfile.write(add(corpus, id, text), good, make.rate)
    soundfile.write(corpus / "wavs" / "studio.wav", good[:8000], make.rate)
    add(corpus, "c000", "a second one")
    report = run(corpus)
    assert reasons(report) == expected | {"c000": "duplicate_id"}
    assert report.kept == 24
    kept = {p.stem for p in (report.dir / "audio").iterdir()}
    assert kept - {"rushed"} == {f"c{n:03d}" for n in range(24)}
    for drop in report.dropped:
        assert drop.detail and "\n" not in drop.detail
    content = json.loads((report.dir / "report.json").read_text())
    assert {row["id"]: row["reason"] for row in content["dropped"]} == reasons(report)
    assert content["reasons"]["too_long"] == 2


def test_stereo_48_khz_24_bit(tmp_path, make, run):
    root = make.corpus(tmp_path / "corpus", make.words(3))
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
    stereo = np.stack([wave, 0.5 * wave], axis=1)
    soundfile.write(add(root, "studio", "ten letters"), stereo, 48000, subtype="PCM_24")
    report = run(root)
    assert report.kept == 4
    prepared, rate = soundfile.read(report.dir / "audio" / "studio.flac")
    assert prepared.ndim == 1 and rate == make.rate
    spectrum = np.abs(np.fft.rfft(prepared[:8000] * np.hanning(8000)))
    assert np.argmax(spectrum) == 440  # 1 Hz a bin


def test_a_lower_sample_rate_is_no_silent_matter(corpus, run):
    report = run(corpus, audio=AudioSettings(sample_rate=16000))
    assert report.kept == 24
    assert any("8000 Hz" in line and "16000" in line for line in report.warnings)


def test_lost_characters_are_named(corpus, run, make):
    soundfile.write(add(corpus, "snow", "white ☃ snow"), make.buzz(1.0), make.rate)
    report = run(corpus)
    assert report.kept == 25
    assert any("☃" in line for line in report.warnings)


def test_running_again_does_only_what_is_missing(corpus, run, make):
    first = run(corpus)
    times = {p.name: p.stat().st_mtime_ns for p in (first.dir / "audio").iterdir()}
    second = run(corpus)
    assert (second.done, second.kept) == (0, 24)
    (first.dir / "audio" / "c003.flac").unlink()
    make.wavs(corpus, [("c100", "yellow")])
    add(corpus, "c100", "yellow")
    soundfile.write(corpus / "wavs" / "c005.wav", make.buzz(0.7, pitch=90), make.rate)
    table = (corpus / "metadata.csv").read_text()
    (corpus / "metadata.csv").write_text(table.replace("c007|", "c007|blue "))
    third = run(corpus)
    assert (third.done, third.kept) == (3, 25)
    after = {p.name: p.stat().st_mtime_ns for p in (first.dir / "audio").iterdir()}
    assert {n for n, time in after.items() if times.get(n) != time} == {
        f"{id}.flac" for id in ("c003", "c100", "c005")
    }
    texts = {cut.id: cut.supervisions[0].text for cut in Corpus(third.dir).train}
    before = dict(make.words(24))
    assert texts.pop("c007") == "blue " + before["c007"]  # a new text needs no decoding
    assert all(before.get(id, "yellow") == text for id, text in texts.items())


def test_changed_settings_are_done_again(corpus, run):
    run(corpus)
    assert run(corpus, level_db=-20.0).done == 24
    assert run(corpus, level_db=-20.0, validation=3).done == 0


def test_an_interrupted_run_goes_on(corpus, run, tmp_path):
    def interrupt(done: int, total: int, note: str) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(corpus, progress=interrupt)
    prepared = tmp_path / "prepared"
    with pytest.raises(CorpusError, match="tacoskip prepare"):
        Corpus(prepared)
    with (prepared / "clips.jsonl").open("a") as journal:
        journal.write('{"id": "c0')  # the machine went down in mid-line
    report = run(corpus)
    assert report.kept == 24 and 1 <= report.done <= 14
    assert not list(prepared.rglob("*.part"))
    again = run(corpus)
    assert again.done == 0 and again.seconds == report.seconds


def test_a_corpus_with_nothing_left(tmp_path, make, run):
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
        Corpus(tmp_path / "prepared")


def test_limit_and_numbers_of_the_splits(corpus, run, tmp_path):
    report = run(corpus, limit=12, validation=3, test=4)
    assert (report.kept, report.splits) == (12, {"train": 5, "validation": 3, "test": 4})
    assert run(corpus, limit=12, dir=str(tmp_path / "b")).splits["validation"] == 1


def test_splits_stay_when_clips_come(corpus, run, make):
    first = run(corpus)
    opened = Corpus(first.dir)
    before = {cut.id: name for name in first.splits for cut in getattr(opened, name)}
    more = [(f"d{n:03d}", "white and brown") for n in range(400)]
    make.wavs(corpus, more)
    for id, text in more:
        add(corpus, id, text)
    second = run(corpus)
    opened = Corpus(second.dir)
    after = {cut.id: name for name in second.splits for cut in getattr(opened, name)}
    assert len(after) == 424 and second.splits["test"] == 8
    assert {id: after[id] for id in before} == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corpus": "ljspech"}, "data.corpus"),
        ({"subset": "dev-clean"}, "data.subset"),
        ({"min_seconds": 5.0, "max_seconds": 2.0}, "min_seconds"),
        ({"limit": -1}, "data.limit"),
        ({"trim_db": 0.0}, "data.trim_db"),
    ],
)
def test_settings_that_cannot_be_meant(corpus, run, settings, message):
    with pytest.raises(ValueError, match=message):
        run(corpus, **settings)


def test_a_root_that_is_no_folder(run, tmp_path):
    with pytest.raises(CorpusError, match="nowhere"):
        run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"data\.root"):
        run("", corpus="folder")


def test_no_place_to_write(corpus, run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LayoutError, match=r"cannot write .*: a file is in its place"):
        run(corpus, dir=str(tmp_path / "file" / "prepared"))


@pytest.mark.parametrize("name", ["dir", "shards"])
def test_a_corpus_is_not_written_into(corpus, run, name):
    before = sorted(corpus.rglob("*"))
    with pytest.raises(ValueError, match=rf"data\.{name}=.* is data\.root, which is only read"):
        run(corpus, **{name: f"{corpus}/wavs/.."})
    assert sorted(corpus.rglob("*")) == before


def test_what_is_not_prepared_says_what_to_type(tmp_path):
    settings = DataSettings(corpus="folder", root="corpus", dir=str(tmp_path / "none"))
    said = (
        r"no prepared corpus in .*none \(run: .* prepare recipe=\.\.\. data\.root=corpus data\.dir="
    )
    with pytest.raises(CorpusError, match=said):
        Corpus.of(settings, AudioSettings(), TextSettings())


def test_a_table_without_rows(tmp_path, run):
    (tmp_path / "metadata.csv").write_text("\n")
    with pytest.raises(LayoutError, match=r"expected clips in .*, found none$"):
        run(tmp_path)
    assert not (tmp_path / "prepared").exists()


def test_too_few_clips_to_train_on(tmp_path, make, run):
    report = run(make.corpus(tmp_path / "corpus", make.words(1)))
    assert report.splits == {"train": 1, "validation": 0, "test": 0}
    assert any("1 clips are too few to train on" in warning for warning in report.warnings)
    assert not len(Corpus(report.dir).validation)
    settings = DataSettings(corpus="folder", root=str(tmp_path / "corpus"), dir=str(report.dir))
    with pytest.raises(ValueError, match="no clip to validate with among so few"):
        Corpus.of(settings, AudioSettings(sample_rate=make.rate), TextSettings())


def test_a_disk_that_is_full(corpus, run, monkeypatch):
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile, "write", full)
    with pytest.raises(CorpusError, match="No space left"):
        run(corpus)


def test_folders_of_different_settings_differ(tmp_path):
    text = TextSettings()
    usual = prepared_dir(DataSettings(corpus="fsdd"), AudioSettings(sample_rate=8000), text)
    assert usual == Path("data/fsdd")
    others = [
        prepared_dir(DataSettings(corpus="fsdd", root=str(tmp_path)), AudioSettings(), text),
        prepared_dir(DataSettings(corpus="fsdd", limit=10), AudioSettings(), text),
        prepared_dir(DataSettings(corpus="fsdd"), AudioSettings(sample_rate=16000), text),
        prepared_dir(DataSettings(corpus="fsdd", trim_db=30.0), AudioSettings(), text),
    ]
    assert len({usual, *others}) == 5
    same = DataSettings(corpus="fsdd", batch_seconds=5.0, join=[1, 3], workers=4)
    assert prepared_dir(same, AudioSettings(sample_rate=8000), text) == usual
    named = DataSettings(dir=str(tmp_path / "x"))
    assert prepared_dir(named, AudioSettings(), text) == tmp_path / "x"


def test_a_folder_prepared_for_something_else(corpus, run, make):
    report = run(corpus)
    data = DataSettings(corpus="folder", dir=str(report.dir))
    assert len(Corpus.of(data, make.audio, TextSettings()).train) == len(Corpus(report.dir).train)
    with pytest.raises(CorpusError, match="expected folder at 22050 Hz"):
        Corpus.of(data, AudioSettings(), TextSettings())


def test_real_digits(recordings, run, tmp_path, make):
    """Real clips of six voices; takes 0-4 are the corpus' own test split."""
    root = tmp_path / "fsdd"
    (root / "recordings").mkdir(parents=True)
    names = sorted(os.listdir(recordings / "fsdd" / "recordings"))
    for name in [n for n in names if int(n.split("_")[2][:-4]) in (3, 7, 8)]:
        shutil.copy(recordings / "fsdd" / "recordings" / name, root / "recordings")
    report = run(root, corpus="fsdd")
    assert report.kept == 180 and not report.dropped
    assert report.splits["test"] == 60 and len(report.speakers) == 6
    opened = Corpus(report.dir)
    cut = next(cut for cut in opened.test if cut.id == "7_jackson_3")
    assert cut.supervisions[0].text == "seven" and cut.supervisions[0].speaker == "jackson"
    assert {c.supervisions[0].speaker for c in opened.train} == set(opened.speakers)
    assert not [c.id for c in opened.train if c.id.endswith("_3")]
