from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tacoskip.audio import read_audio, trim_silence

Voice = Callable[..., NDArray[np.float32]]
RATE = 16000


def between_silences(sound: NDArray[np.float32], noise: float = 1e-4) -> NDArray[np.float32]:
    """One second of faint noise on either side."""
    rng = np.random.default_rng(0)
    wave = (noise * rng.standard_normal(len(sound) + 2 * RATE)).astype(np.float32)
    wave[RATE:-RATE] += sound
    return wave


def test_finds_the_sound_and_keeps_the_margin() -> None:
    tone = 0.3 * np.sin(np.arange(RATE) / 5).astype(np.float32)
    start, end = trim_silence(between_silences(tone), RATE, 40, margin_ms=0)
    assert abs(start - RATE) <= 0.025 * RATE and abs(end - 2 * RATE) <= 0.025 * RATE
    assert trim_silence(between_silences(tone), RATE, 40, margin_ms=100) == (
        start - 1600,
        end + 1600,
    )


def test_margin_ends_with_the_clip() -> None:
    tone = 0.3 * np.sin(np.arange(RATE) / 5)
    assert trim_silence(tone, RATE, 40, margin_ms=500) == (0, RATE)


def test_threshold_counts_from_the_clips_own_level() -> None:
    tone = 0.3 * np.sin(np.arange(RATE) / 5).astype(np.float32)
    wave = between_silences(np.concatenate([0.003 * tone, tone]), noise=1e-5)
    assert trim_silence(wave, RATE, 60, 0)[0] < RATE + 800
    assert trim_silence(wave, RATE, 40, 0)[0] > 2 * RATE - 800
    assert trim_silence(0.01 * wave, RATE, 40, 0) == trim_silence(wave, RATE, 40, 0)


@pytest.mark.parametrize("place", [100, 8000, 40000])
@pytest.mark.parametrize("length", [1, 40])
def test_a_click_far_from_speech_is_no_speech(voice: Voice, place: int, length: int) -> None:
    wave = between_silences(voice(RATE))
    expected = trim_silence(wave, RATE, 40, 0)
    for offset in range(0, 160, 40):  # wherever it falls in the frames
        clicked = wave.copy()
        clicked[place + offset : place + offset + length] = 0.9
        if not expected[0] <= place < expected[1]:
            assert trim_silence(clicked, RATE, 40, 0) == expected


def test_the_release_of_a_final_plosive_stays() -> None:
    word = np.zeros(RATE // 2, np.float32)
    word[:6000] = 0.3 * np.sin(np.arange(6000) / 5)
    word[7400:7480] = 0.1 * np.random.default_rng(0).standard_normal(80)  # 90 ms later, for 5 ms
    assert trim_silence(between_silences(word), RATE, 40, 0)[1] >= RATE + 7480


def test_a_clip_of_nothing_but_a_click_is_kept() -> None:
    wave = np.zeros(RATE)
    wave[8000:8016] = 0.5
    start, end = trim_silence(wave, RATE, 40, 0)
    assert start <= 8000 and end >= 8016 and end - start < 0.06 * RATE


@pytest.mark.parametrize(
    "wave",
    [np.zeros(0), np.zeros(10), np.zeros(RATE), np.full(RATE, 0.25), np.full(RATE, 1e-7)],
    ids=["none", "short", "zeros", "offset", "below hearing"],
)
def test_silence(wave: NDArray[np.float64]) -> None:
    assert trim_silence(wave, RATE, 40) == (0, 0)


@pytest.mark.parametrize("length", [1, 2, 399, 400, 401, 900])
def test_short_sounds_are_kept_whole(length: int) -> None:
    wave = 0.5 * np.random.default_rng(0).standard_normal(length)
    if length == 1:  # one sample is an offset
        assert trim_silence(wave, RATE, 40) == (0, 0)
    else:
        assert trim_silence(wave, RATE, 40) == (0, length)


def test_shape_is_checked() -> None:
    with pytest.raises(ValueError, match=r"expected a wave \(N,\), got \(2, 3\)"):
        trim_silence(np.zeros((2, 3)), RATE, 40)


def test_recordings_keep_their_energy(recording: Path) -> None:
    wave, rate = read_audio(recording)
    padded = np.concatenate([np.zeros(rate), wave, np.zeros(rate)])
    start, end = trim_silence(padded, rate, 45)
    assert start >= 0.9 * rate and end <= len(padded) - 0.9 * rate
    assert np.square(padded[start:end]).sum() > 0.999 * np.square(wave).sum()
