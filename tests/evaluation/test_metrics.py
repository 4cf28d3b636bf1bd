"""Metrics against librosa, scipy and tones of known pitch."""

import numpy as np
import pytest
import torch

from tacoskip.evaluation.metrics import (
    compare_speech,
    dtw_path,
    f0_hz,
    f0_rmse_cents,
    mcd_db,
    mel_cepstra,
)

SAMPLE_RATE, HOP = 8000, 100


def mel(frames: int = 60, mels: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-1, 0.5, (frames, mels))


def tone(f0: float, seconds: float = 1.0) -> np.ndarray:
    """A buzz of ten harmonics."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    harmonics = np.arange(1, 11)[:, None]
    return np.asarray((np.sin(2 * np.pi * f0 * harmonics * time) / harmonics).sum(axis=0))


def straight(frames: int) -> np.ndarray:
    return np.stack([np.arange(frames)] * 2, axis=1)


# Mel-cepstral distortion


def test_dct_equals_its_definition() -> None:
    x = mel(mels=24)
    band = (np.arange(24) + 0.5) / 24
    expected = [2 / 24 * (np.log(10) * x) @ np.cos(np.pi * k * band) for k in range(1, 14)]
    np.testing.assert_allclose(mel_cepstra(x), np.stack(expected, axis=1), atol=1e-12)


@pytest.mark.parametrize("mels", [40, 80])
def test_a_ripple_of_known_depth_is_its_rms_in_db(mels: int) -> None:
    """A ripple of `depth` dB differs by depth / sqrt(2) dB RMS, at any number of mels."""
    flat = np.zeros((20, mels))
    depth = 3.0
    ripple = depth / 20 * np.cos(np.pi * 5 * (np.arange(mels) + 0.5) / mels)
    assert mcd_db(flat, flat + ripple) == pytest.approx(depth / np.sqrt(2))


def test_mcd_is_zero_on_itself_symmetric_and_deaf_to_loudness() -> None:
    a, b = mel(), mel(50, seed=1)
    assert mcd_db(a, a) == 0
    assert mcd_db(a, a + 0.7) == pytest.approx(0, abs=1e-9)
    assert mcd_db(a, b) == pytest.approx(mcd_db(b, a)) and mcd_db(a, b) > 1
    assert mcd_db(torch.from_numpy(a), torch.from_numpy(b)) == mcd_db(a, b)


def test_mcd_forgives_tempo() -> None:
    a = mel()
    assert mcd_db(a, np.repeat(a, 2, axis=0)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("shape", [(30, 30), (1, 7), (7, 1), (40, 23)])
def test_dtw_equals_librosa(shape: tuple[int, int]) -> None:
    import librosa

    cost = np.random.default_rng(3).random(shape)
    expected = librosa.sequence.dtw(C=cost)[1][::-1]
    np.testing.assert_array_equal(dtw_path(cost), expected)


def test_mcd_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(
        ValueError, match=r"expected a non-empty array \(T, M\), got shape \(0, 40\)"
    ):
        mcd_db(mel()[:0], mel())
    with pytest.raises(ValueError, match="expected more than 13 mels, got 13"):
        mcd_db(mel(mels=13), mel(mels=13))


# F0


@pytest.mark.parametrize("f0", [80.0, 130.0, 310.0])
def test_f0_of_a_tone(f0: float) -> None:
    found = f0_hz(tone(f0), SAMPLE_RATE, HOP)
    assert found.shape == (81,)
    assert np.isfinite(found[5:-5]).all()
    np.testing.assert_allclose(found[5:-5], f0, rtol=0.01)


def test_noise_and_silence_are_not_voiced() -> None:
    noise = np.random.default_rng(0).normal(size=2 * SAMPLE_RATE)
    assert np.isnan(f0_hz(noise, SAMPLE_RATE, HOP)).all()
    assert np.isnan(f0_hz(np.zeros(SAMPLE_RATE), SAMPLE_RATE, HOP)).all()
    hum = np.concatenate([tone(120), 0.001 * tone(120)])
    assert np.isnan(f0_hz(hum, SAMPLE_RATE, HOP)[85:]).all()


def test_f0_rmse_of_100_cents() -> None:
    low, high = tone(140), tone(140 * 2 ** (100 / 1200))
    assert f0_rmse_cents(low, high, SAMPLE_RATE, HOP, straight(81)) == pytest.approx(100, abs=4)
    assert f0_rmse_cents(low, low, SAMPLE_RATE, HOP, straight(81)) == 0


def test_f0_rmse_is_nan_when_nothing_is_voiced_on_both_sides() -> None:
    silence = np.zeros(SAMPLE_RATE)
    assert np.isnan(f0_rmse_cents(tone(140), silence, SAMPLE_RATE, HOP, straight(81)))


def test_compare_speech_follows_the_mel_path() -> None:
    """A pitch step that comes later in the candidate costs nothing once the frames are aligned."""
    from tacoskip.audio import AudioSettings, FrontEnd

    front_end = FrontEnd(AudioSettings(sample_rate=SAMPLE_RATE, n_mels=40))
    noise = np.random.default_rng(1).normal(size=SAMPLE_RATE // 10)
    early = np.concatenate([tone(110, 0.3), noise, tone(180, 0.8)])
    late = np.concatenate([tone(110, 0.7), noise, tone(180, 0.4)])
    mels = [front_end.features(torch.from_numpy(wave).float())[1] for wave in (early, late)]
    found = compare_speech(early, late, SAMPLE_RATE, HOP, mels[0], mels[1])
    unaligned = f0_rmse_cents(early, late, SAMPLE_RATE, HOP, straight(len(mels[0])))
    assert set(found) == {"mcd_db", "f0_rmse_cents"}
    assert found["f0_rmse_cents"] < 50 < 300 < unaligned
    assert 0 < found["mcd_db"] < 3
