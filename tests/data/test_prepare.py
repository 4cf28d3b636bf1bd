"""Preparing a corpus: what is kept, what is dropped and why, what a second run does."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tacoskip.audio import AudioSettings
from tacoskip.data.checks import LEVEL_DB
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepare import PrepareReport
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.files import FolderInUse, folder_lock


def reasons(report: PrepareReport) -> dict[str, str]:
    return {drop.id: drop.reason for drop in report.dropped}


def add(root: Path, id: str, text: str) -> Path:
    with (root / "metadata.csv").open("a", encoding="utf-8") as table:
        table.write(f"{id}|{text}\n")
    return root / "wavs" / f"{id}.wav"


def test_all_good_clips_are_kept(corpus, run, make):
    report = run(corpus)
    assert (report.kept, report.dropped, report.warnings, report.done) == (24, [], [], 24)
    opened = PreparedCorpus(report.dir)
    assert sum(report.splits.values()) == 24
    assert len(opened.train) == report.splits["train"] and report.splits["train"] >= 20
    assert opened.speakers == ["speaker"] and opened.audio_sample_rate == make.rate
    assert opened.settings["audio"]["n_mels"] == make.audio.n_mels
    table = dict(make.words(24))
    for clip in [*opened.train, *opened.validation, *opened.test]:
        assert clip.text == table[clip.id] == clip.normalized
        assert len(clip.load()) == clip.samples and clip.sample_rate == make.rate


def test_prepared_folder_can_be_moved(corpus, run, tmp_path):
    report = run(corpus)
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    report.dir.rename(moved)
    clip = PreparedCorpus(moved).train[0]
    assert len(clip.load()) == clip.samples
    assert clip.source.startswith(str(tmp_path / "elsewhere"))


def test_level_silence_and_offset(tmp_path, make, run):
    root = tmp_path / "corpus"
    make.wavs(root, [])
    speech = make.buzz(1.0)
    silence = 1e-5 * np.random.default_rng(0).standard_normal(4000)
    loud = np.concatenate([silence, speech * 2, silence]) + 0.05
    soundfile.write(root / "wavs" / "a.wav", loud, make.rate, subtype="FLOAT")
    soundfile.write(root / "wavs" / "b.wav", speech * 0.05, make.rate, subtype="FLOAT")
    (root / "metadata.csv").write_text("a|ten letters\nb|ten letters\n")
    report = run(root)
    for name in ("a", "b"):
        wave, _ = soundfile.read(report.dir / "audio" / f"{name}.flac")
        assert 0.98 <= len(wave) / make.rate <= 1.16  # 50 ms of margin on either side, and frames
        assert 10 * np.log10(np.mean(wave**2)) == pytest.approx(LEVEL_DB, abs=0.05)
        assert abs(wave.mean()) < 1e-3
        assert soundfile.info(report.dir / "audio" / f"{name}.flac").subtype == "PCM_16"


def test_level_is_lowered_where_a_peak_would_clip(corpus, run, monkeypatch):
    monkeypatch.setattr("tacoskip.data.checks.LEVEL_DB", -3.0)
    report = run(corpus)
    wave, _ = soundfile.read(report.dir / "audio" / "c000.flac")
    assert np.abs(wave).max() == pytest.approx(0.99, abs=1e-3)


def test_bad_clips_are_dropped_with_their_reasons(corpus, run, make, tmp_path):
    good = make.buzz(1.0)
    make.wavs(corpus, [])

    def write(id: str, wave: np.ndarray, rate: int = make.rate, **options: str) -> Path:
        path = add(corpus, id, "ten letters")
        soundfile.write(path, wave, rate, **options)
        return path

    expected = {
        "clip": "truncated",
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
    path = write("clip", good)
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


def test_lower_sample_rate_is_a_warning(corpus, run):
    report = run(corpus, audio=AudioSettings(sample_rate=16000))
    assert report.kept == 24
    assert any("8000 Hz" in line and "16000" in line for line in report.warnings)


def test_lost_characters_are_named(corpus, run, make):
    soundfile.write(add(corpus, "snow", "white ☃ snow"), make.buzz(1.0), make.rate)
    report = run(corpus)
    assert report.kept == 25
    assert any("☃" in line for line in report.warnings)


def test_second_run_does_only_what_is_missing(corpus, run, make):
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
    texts = {clip.id: clip.text for clip in PreparedCorpus(third.dir).train}
    before = dict(make.words(24))
    assert texts.pop("c007") == "blue " + before["c007"]  # a new text needs no decoding
    assert all(before.get(id, "yellow") == text for id, text in texts.items())


def test_changed_settings_are_done_again(corpus, run):
    run(corpus)
    assert run(corpus, max_seconds=10.0).done == 24
    assert run(corpus, max_seconds=10.0, validation=3).done == 0


def test_interrupted_run_is_continued(corpus, run, tmp_path):
    def interrupt(done: int, total: int, note: str) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(corpus, progress=interrupt)
    prepared = tmp_path / "prepared"
    with pytest.raises(CorpusError, match="tacoskip prepare"):
        PreparedCorpus(prepared)
    report = run(corpus)
    assert report.kept == 24 and 1 <= report.done <= 14
    assert not list(prepared.rglob("*.part"))
    again = run(corpus)
    assert again.done == 0 and again.seconds == report.seconds


@pytest.mark.hostile
def test_second_prepare_of_a_folder_is_refused(corpus, run, tmp_path):
    with folder_lock(tmp_path / "prepared"), pytest.raises(FolderInUse, match="in use by process"):
        run(corpus)
    assert run(corpus).kept == 24


@pytest.mark.hostile
def test_odd_names_end_their_file_alone(corpus, run, make, tmp_path):
    for text in (corpus / "metadata.csv").read_text().splitlines():
        id, _, words = text.partition("|")
        (corpus / "wavs" / f"{id}.txt").write_text(words)
    odd = b"caf\xe9"
    for suffix in (b".wav", b".txt"):
        shutil.copy(
            corpus / f"wavs/c000{suffix.decode()}", os.fsencode(corpus) + b"/" + odd + suffix
        )
    shutil.copy(corpus / "wavs/c000.wav", corpus / f"{'n' * 251}.wav")
    (corpus / f"{'n' * 251}.txt").write_text("ten letters")
    (corpus / "metadata.csv").unlink()
    report = run(corpus)
    assert reasons(report) == {"caf\\udce9": "bad_name"} and report.kept == 25
    (corpus / "metadata.csv").write_text(f"{'n' * 300}|one\nc001|two words\n")
    report = run(corpus, dir=str(tmp_path / "other"))
    assert reasons(report) == {"n" * 300: "missing"} and report.kept == 1


@pytest.mark.hostile
def test_channels_of_opposite_phase_are_dropped(corpus, run, make):
    wave = make.buzz(1.0)
    soundfile.write(add(corpus, "both", "ten letters"), np.stack([wave, -wave], 1), make.rate)
    assert reasons(run(corpus)) == {"both": "opposite_phase"}


def test_limit_and_numbers_of_the_splits(corpus, run, tmp_path):
    report = run(corpus, limit=12, validation=3, test=4)
    assert (report.kept, report.splits) == (12, {"train": 5, "validation": 3, "test": 4})
    assert run(corpus, limit=12, dir=str(tmp_path / "b")).splits["validation"] == 1


def test_splits_stay_when_clips_are_added(corpus, run, make):
    first = run(corpus)
    opened = PreparedCorpus(first.dir)
    before = {clip.id: name for name in first.splits for clip in getattr(opened, name)}
    more = [(f"d{n:03d}", "white and brown") for n in range(80)]
    make.wavs(corpus, more)
    for id, text in more:
        add(corpus, id, text)
    second = run(corpus)
    opened = PreparedCorpus(second.dir)
    after = {clip.id: name for name in second.splits for clip in getattr(opened, name)}
    assert len(after) == 104 and second.splits["test"] == 8
    assert {id: after[id] for id in before} == before


def test_speaker_chooses_who_is_prepared(recordings, run):
    root = recordings / "arctic"
    report = run(root, corpus="arctic", speaker="slt,bdl", limit=12)
    assert report.speakers == ["bdl", "slt"] and report.kept == 12
    assert report.licence and "Kominek" in report.citation


def test_arctic_sentences_are_split_alike_for_all_speakers(recordings, run):
    report = run(recordings / "arctic", corpus="arctic", limit=90, validation=20, test=20)
    opened = PreparedCorpus(report.dir)
    sentences = [{c.id[-5:] for c in getattr(opened, split)} for split in report.splits]
    assert not sentences[0] & sentences[1] and not sentences[0] & sentences[2]
    assert not sentences[1] & sentences[2]


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
    opened = PreparedCorpus(report.dir)
    clip = next(clip for clip in opened.test if clip.id == "7_jackson_3")
    assert clip.text == "seven" and clip.speaker == "jackson"
    assert {c.speaker for c in opened.train} == set(opened.speakers)
    assert not [c.id for c in opened.train if c.id.endswith("_3")]
