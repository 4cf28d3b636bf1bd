"""Loudness against the standard's own case and pyloudnorm."""

import numpy as np
import pytest

from tacoskip.audio.loudness import loudness


def test_sine_of_the_standard() -> None:
    """BS.1770-4: a sine of 997 Hz at full scale in one channel has -3.01 LUFS."""
    time = np.arange(5 * 48000) / 48000
    wave = np.sin(2 * np.pi * 997 * time).astype(np.float32)
    assert loudness(wave, 48000) == pytest.approx(-3.01, abs=0.02)
    assert loudness(wave / 10, 48000) == pytest.approx(-23.01, abs=0.02)
    pause = np.zeros(10 * 48000, np.float32)  # silence does not count
    assert loudness(np.concatenate([wave, pause]), 48000) == pytest.approx(-3.01, abs=0.3)


def test_silence_and_short_waves() -> None:
    assert loudness(np.zeros(8000, np.float32), 8000) == -np.inf
    assert loudness(np.zeros(0, np.float32), 8000) == -np.inf
    assert np.isfinite(loudness(np.ones(100, np.float32), 8000))


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_loudness_matches_pyloudnorm(rate: int) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm", reason="pip install 'tacoskip[bench]'")
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(4 * rate) * np.repeat(rng.random(8), rate // 2) * 0.1
    expected = pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(noise)
    assert loudness(noise.astype(np.float32), rate) == pytest.approx(expected, abs=0.1)
