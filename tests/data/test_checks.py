"""One clip at a time: truncation in every container, rates, levels, the journal."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tacoskip.data.checks import (
    PEAK,
    clip_key,
    decode,
    prepare_clip,
    reject_implausible_rates,
    set_level,
    to_mono,
)
from tacoskip.data.errors import Rejected
from tacoskip.data.prepared import audio_name
from tacoskip.data.utterance import Utterance

CONTAINERS = [
    ("wav", {}),
    ("flac", {}),
    ("ogg", {}),
    ("opus", {"format": "OGG", "subtype": "OPUS"}),
    ("mp3", {}),
    ("aiff", {}),
    ("au", {}),
    ("w64", {}),
    ("rf64", {"format": "RF64"}),
    ("nist", {}),
    ("voc", {}),
]


@pytest.mark.parametrize(("suffix", "options"), CONTAINERS)
@pytest.mark.parametrize("share", [0.4, 0.98])
@pytest.mark.hostile
def test_truncated_file_is_rejected(tmp_path, make, suffix, options, share):
    path = tmp_path / f"a.{suffix}"
    wave = make.buzz(4.0, 16000)
    soundfile.write(path, wave, 16000, **options)
    samples, rate = decode(path, 20.0)
    assert len(samples) / rate == pytest.approx(4.0, abs=0.05)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(Rejected) as caught:
        decode(path, 20.0)
    assert caught.value.reason in ("truncated", "undecodable" if suffix == "flac" else "")


@pytest.mark.hostile
def test_wav_of_unknown_size_is_read_whole(tmp_path, make):
    """A writer that cannot go back leaves 0xFFFFFFFF as the sizes."""
    path = tmp_path / "a.wav"
    soundfile.write(path, make.buzz(1.0), 8000)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"data") + 4
    raw[4:8] = raw[at : at + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(raw)
    assert len(decode(path, 20.0)[0]) == 8000


def test_mp3_without_a_header_of_its_length_is_read(tmp_path, make):
    """Voice recorders and streams write none; libsndfile guesses a few samples too many."""
    path = tmp_path / "a.mp3"
    rates = {"bitrate_mode": "CONSTANT", "compression_level": 0.5}
    soundfile.write(path, make.buzz(2.0, 22050), 22050, **rates)
    raw = path.read_bytes()
    second = raw.index(raw[:2], 4)  # the first frame holds no sound but the header
    path.write_bytes(b"ID3\3\0\0\0\0\2\0" + bytes(256) + raw[second:])
    assert soundfile.info(path).frames > len(decode(path, 20.0)[0]) > 44100


def test_very_long_file_is_rejected_by_its_header(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(8000 * 600, dtype=np.int16), 8000)

    def read(*args: object, **options: object) -> None:
        raise AssertionError("the samples were read")

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    with pytest.raises(Rejected) as caught:
        decode(path, 20.0)
    assert caught.value.reason == "too_long" and "600.0 s" in caught.value.detail


def test_clipping_is_counted_in_each_channel(tmp_path):
    path, file = tmp_path / "a.wav", tmp_path / "a.flac"
    samples = 0.1 * np.random.default_rng(0).standard_normal((8000, 2)).clip(-5, 5)
    soundfile.write(path, samples, 8000, subtype="FLOAT")
    assert prepare_clip(path, file, "key", 20.0, 8000)[1] == 8000
    samples[:560, 1] = -1.0
    soundfile.write(path, samples, 8000, subtype="FLOAT")
    with pytest.raises(Rejected, match=r"clipped: 7.0% of samples at full scale"):
        prepare_clip(path, file, "key", 20.0, 8000)
    samples[50, 0] = np.nan
    soundfile.write(path, samples, 8000, subtype="FLOAT")
    with pytest.raises(Rejected, match=r"not_finite: .*got 1 of 8000"):
        decode(path, 20.0)


def test_mixing_and_resampling():
    time = np.arange(48000) / 48000
    tone = np.sin(2 * np.pi * 500 * time).astype(np.float32)
    samples = np.stack([0.8 * tone + 0.1, 0.2 * tone + 0.1], axis=1)
    wave = to_mono(samples, 48000, 16000)
    expected = 0.5 * np.sin(2 * np.pi * 500 * np.arange(16000) / 16000)
    assert wave.dtype == np.float32 and len(wave) == 16000
    np.testing.assert_allclose(wave[200:-200], expected[200:-200], atol=2e-3)


def test_level_and_peak():
    wave = np.sin(np.arange(8000) / 5).astype(np.float32) * 0.01
    assert 20 * np.log10(np.sqrt(np.mean(set_level(wave) ** 2))) == pytest.approx(-26, abs=0.01)
    wave[100] = 0.5
    assert np.abs(set_level(wave)).max() == pytest.approx(PEAK, abs=1e-6)


def test_speaking_rates():
    def implausible(*letters: int) -> list[int]:
        clips = [Utterance("", Path(), "", "", "a" * n, samples=16000) for n in letters]
        reject_implausible_rates(clips, 8000)
        return [index for index, clip in enumerate(clips) if clip.rejected]

    usual = [30 + n % 7 for n in range(40)]
    assert implausible(*usual) == []
    assert implausible(*usual, 200, 3, 60) == [40, 41]
    # few clips: nothing to compare with, so only what nobody can say
    assert implausible(30, 200) == [1]
    assert implausible() == []


def test_names_of_prepared_files_are_safe_and_differ():
    ids = ["a", "a/b", "a%2Fb", "../x", "é", "x" * 300, "x" * 301, "con:aux", "a b", "a\nb"]
    names = [audio_name(id) for id in ids]
    assert len(set(names)) == len(ids)
    for name in names:
        path = Path(name)
        assert path.parent == Path("audio") and len(path.name) < 200
        assert not set(path.name) & set('/\\:\n*?"<>|')


def test_result_depends_on_file_and_audio_settings(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"1234")
    keys = {clip_key(path, 20.0, 8000), clip_key(path, 9.0, 8000), clip_key(path, 20.0, 16000)}
    path.write_bytes(b"12345")
    keys.add(clip_key(path, 20.0, 8000))
    path.unlink()
    keys.add(clip_key(path, 20.0, 8000))
    assert len(keys) == 5
