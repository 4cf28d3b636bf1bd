"""Perturbed clips: by how much, repeatable, and never the same twice."""

import numpy as np
import pytest

from tacoskip.data.perturbation import faster, noisy, perturbed
from tacoskip.data.settings import AugmentSettings

RATE = 8000
TONE = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)


def peak_hz(wave: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 17))
    return float(spectrum.argmax() * RATE / (1 << 17))


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_faster_is_shorter_and_higher(factor: float) -> None:
    wave = faster(TONE, RATE, factor)
    assert len(wave) == pytest.approx(RATE / factor, abs=2)
    assert peak_hz(wave) == pytest.approx(440 * factor, rel=0.01)


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_has_the_requested_level(snr_db: float) -> None:
    added = noisy(TONE, snr_db, np.random.default_rng(0)) - TONE
    ratio = 10 * np.log10(np.mean(TONE.astype(float) ** 2) / np.mean(added.astype(float) ** 2))
    assert ratio == pytest.approx(snr_db, abs=0.1)


def test_silence_around_keeps_the_clip() -> None:
    settings = AugmentSettings(silence_seconds=0.5)
    wave = perturbed(TONE, RATE, settings, "a")
    assert RATE < len(wave) <= 2 * RATE
    start = int(np.abs(wave).__gt__(0.01).argmax())
    np.testing.assert_allclose(wave[start - 1 : start - 1 + RATE], TONE, atol=1e-3)


def test_same_key_repeats_the_perturbation() -> None:
    settings = AugmentSettings(speed=[0.9, 1.1], noise_db=[0, 20], silence_seconds=0.1)
    waves = {key: perturbed(TONE, RATE, settings, key) for key in ("1 x", "2 x", "1 y")}
    for key, wave in waves.items():
        np.testing.assert_array_equal(perturbed(TONE, RATE, settings, key), wave)
    assert len({len(wave) for wave in waves.values()}) == 3


def test_default_settings_change_nothing() -> None:
    np.testing.assert_array_equal(perturbed(TONE, RATE, AugmentSettings(), "a"), TONE)
