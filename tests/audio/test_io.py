import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from tacoskip.audio import read_audio, stream_audio, write_audio


def tone(sample_rate: int, seconds: float = 0.5, frequency: float = 440.0) -> NDArray[np.float64]:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return 0.5 * np.sin(2 * np.pi * frequency * time)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(16000), 16000, subtype="PCM_16")
    return path


def refusal(path: Path) -> str:
    """Return the one line that the readers give."""
    with pytest.raises(ValueError, match=r".") as read:
        read_audio(path)
    with pytest.raises(ValueError, match=r".") as streamed:
        list(stream_audio(path, 8000))
    assert str(read.value) == str(streamed.value)
    assert str(path) in str(read.value) and "\n" not in str(read.value)
    return str(read.value)


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        (".wav", "PCM_U8", 0.01),
        (".wav", "PCM_16", 1e-4),
        (".wav", "PCM_24", 1e-6),
        (".wav", "FLOAT", 1e-7),
        (".wav", "DOUBLE", 1e-7),
        (".flac", "PCM_24", 1e-6),
        (".ogg", "VORBIS", 0.05),
        (".mp3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_formats_and_depths(tmp_path: Path, suffix: str, subtype: str, tolerance: float) -> None:
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, tone(24000), 24000, subtype=subtype)
    wave, rate = read_audio(path)
    assert (rate, wave.dtype, wave.shape) == (24000, np.float32, (12000,))
    assert np.abs(wave - tone(24000))[2000:-2000].max() < tolerance


def test_stereo_48_khz_24_bit_becomes_mono_at_the_rate_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left, right = tone(48000), 0.2 * tone(48000, frequency=1000)
    soundfile.write(path, np.stack([left, right], axis=1), 48000, subtype="PCM_24")
    wave, rate = read_audio(path, sample_rate=22050)
    assert (rate, wave.dtype, wave.shape) == (22050, np.float32, (11025,))
    expected = (tone(22050) + 0.2 * tone(22050, frequency=1000)) / 2
    assert np.abs(wave - expected)[500:-500].max() < 1e-4


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.wav")


def test_folder(tmp_path: Path) -> None:
    assert "Is a directory" in refusal(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    assert "empty" in refusal(tmp_path / "empty.wav")


def test_text_named_wav(tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("This is no recording, whatever its name says.\n" * 40)
    assert "not readable as audio" in refusal(path)


def test_unknown_suffix_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "noise.raw"
    path.write_bytes(bytes(range(256)) * 10)
    assert "not readable as audio" in refusal(path)


@pytest.mark.parametrize("share", [0.1, 0.6, 0.99])
def test_truncated_wav(wav: Path, share: float) -> None:
    content = wav.read_bytes()
    wav.write_bytes(content[: int(share * len(content))])
    assert "cut short, expected 16000 bytes" in refusal(wav)


@pytest.mark.parametrize("size", [3, 11, 20, 40])
def test_wav_cut_inside_its_header(wav: Path, size: int) -> None:
    wav.write_bytes(wav.read_bytes()[:size])
    assert "not readable as audio" in refusal(wav)


def test_truncated_wav_with_a_chunk_before_the_samples(wav: Path) -> None:
    content = wav.read_bytes()
    place = content.index(b"data")
    extra = b"LIST" + struct.pack("<I", 5) + b"hello\0"  # odd, so padded
    wav.write_bytes(content[:place] + extra + content[place:])
    assert read_audio(wav)[0].shape == (8000,)
    wav.write_bytes(wav.read_bytes()[:-2])
    assert "cut short" in refusal(wav)


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3"])
def test_truncated_compressed_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, tone(16000, 3.0), 16000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(ValueError, match=r"cut short|not readable as audio") as refused:
        read_audio(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("size", [0x7FFFF000, 0xFFFFFFFF])
@pytest.mark.parametrize("riff_size", [0, 36, 0xFFFFFFFF])
@pytest.mark.hostile
def test_wav_streamed_through_a_pipe_is_read_whole(wav: Path, size: int, riff_size: int) -> None:
    content = bytearray(wav.read_bytes())
    place = content.index(b"data") + 4
    content[4:8] = struct.pack("<I", riff_size)
    content[place : place + 4] = struct.pack("<I", size)
    wav.write_bytes(content)
    wave, _ = read_audio(wav)
    np.testing.assert_allclose(wave, tone(16000), atol=1e-4)


@pytest.mark.parametrize("kind", ["RF64", "W64", "AIFF", "AU", "NIST", "VOC"])
@pytest.mark.hostile
def test_other_formats_that_state_their_size(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(16000), 16000, format=kind, subtype="PCM_16")
    assert len(read_audio(path)[0]) == 8000
    path.write_bytes(path.read_bytes()[:9000])
    assert "cut short" in refusal(path)


def test_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    soundfile.write(path, np.zeros(0), 16000)
    assert "holds no samples" in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    path = tmp_path / "nan.wav"
    wave = tone(16000)
    wave[[5, 7]] = value
    soundfile.write(path, wave, 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"nan\.wav: expected finite samples, got 2 of 8000"):
        read_audio(path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_file_one_may_not_read(wav: Path) -> None:
    wav.chmod(0)
    assert "Permission denied" in refusal(wav)


def test_impossible_rate(wav: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 Hz, got 0"):
        read_audio(wav, sample_rate=0)


def test_reading_and_writing_again_keeps_every_sample(tmp_path: Path) -> None:
    path = tmp_path / "full.wav"
    every = np.arange(-32768, 32768, dtype=np.int16)
    soundfile.write(path, every, 16000, subtype="PCM_16")
    wave, rate = read_audio(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_audio(tmp_path / "again.wav", wave, rate)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "again.wav", dtype="int16")[0], every)
    assert soundfile.info(tmp_path / "again.wav").subtype == "PCM_16"


def test_clipping_says_by_how_much(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    with pytest.warns(UserWarning, match=r"clipped 2 of 4 samples, the loudest at 2.000 \(6.0 dB"):
        write_audio(path, torch.tensor([0.5, -2.0, 1.5, 0.0]), 8000)
    np.testing.assert_allclose(soundfile.read(path)[0], [0.5, -1, 1, 0], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "wave", "message"),
    [
        ("a.wav", np.array([0.0, np.nan]), "finite samples, got 1 of 2"),
        ("a.wav", np.zeros((2, 5)), r"\(N,\), got float64 \(2, 5\)"),
        ("a.wav", np.zeros(5, np.int16), "floating point wave"),
        ("a.nonsense", np.zeros(5), "not writable as 16-bit audio"),
        ("absent/a.wav", np.zeros(5), "no such folder"),
    ],
)
def test_writing_refuses(tmp_path: Path, name: str, wave: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        write_audio(tmp_path / name, wave, 16000)  # type: ignore[arg-type]
    assert name in str(refused.value) and "\n" not in str(refused.value)


def patched(path: Path, kind: str, place: int, content: bytes) -> Path:
    """A sound file with some of its bytes replaced."""
    soundfile.write(path, tone(16000), 16000, format=kind)
    whole = bytearray(path.read_bytes())
    whole[place : place + len(content)] = content
    path.write_bytes(whole)
    return path


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_a_rate_that_no_recording_has(tmp_path: Path, rate: int) -> None:
    path = patched(tmp_path / "a.wav", "WAV", 24, struct.pack("<I", rate))
    assert f"sample rate of 1000 to 1000000 Hz, got {rate}" in refusal(path)


@pytest.mark.parametrize("samples", [0, 10**9, 2**36 - 1])
@pytest.mark.hostile
def test_a_flac_that_promises_what_it_cannot_hold(tmp_path: Path, samples: int) -> None:
    """0 is "not known": libsndfile takes it for 9e18 samples, and as much memory."""
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(16000), 16000)
    head = int.from_bytes(path.read_bytes()[18:26], "big")
    field = ((head >> 36) << 36 | samples).to_bytes(8, "big")
    said = refusal(patched(path, "FLAC", 18, field))
    assert "expected a header that says how many samples follow" in said


@pytest.mark.hostile
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    assert "got a FIFO or device" in refusal(tmp_path / "a.wav")


def test_samples_so_loud_that_their_power_has_no_number(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full((50, 2), 3e38), 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match="expected finite samples, got 50 of 50"):
        read_audio(path)
    with pytest.raises(ValueError, match="expected finite samples"):
        list(stream_audio(path, 8000))


def test_a_format_that_cannot_be_searched(tmp_path: Path) -> None:
    path = tmp_path / "gsm.wav"
    soundfile.write(path, tone(8000), 8000, subtype="GSM610")
    assert len(read_audio(path)[0]) >= 4000


def test_a_full_disk_keeps_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, np.zeros(5), 8000)
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> None:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as failed:
        write_audio(path, np.zeros(9), 8000)
    assert failed.value.filename == str(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.hostile
def test_channels_of_opposite_phase_give_a_warning(tmp_path: Path) -> None:
    tone = 0.3 * np.sin(np.arange(8000) / 5)
    soundfile.write(tmp_path / "a.wav", np.stack([tone, -tone], axis=1), 8000)
    with pytest.warns(UserWarning, match="opposite phases, mixed to mono they cancel"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.hostile
def test_recording_too_long_to_hold_in_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(100_000), 8000)
    monkeypatch.setattr("tacoskip.audio.io.MOST_SAMPLES", 50_000)
    with pytest.raises(ValueError, match="too long to be read at once, expected at most 50,000"):
        read_audio(tmp_path / "a.flac")
    assert sum(map(len, stream_audio(tmp_path / "a.flac", 8000, 1.0))) == 100_000
    monkeypatch.setenv("TACOSKIP_LIMITS", "2")
    assert len(read_audio(tmp_path / "a.flac")[0]) == 100_000
