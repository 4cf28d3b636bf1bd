import warnings
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter

from tacoskip.audio import AudioSettings, FrontEnd, read_audio
from tacoskip.audio.features import mel_filters
from tacoskip.audio.settings import FLOOR_DB

pytestmark = pytest.mark.usefixtures("both_ways")

Voice = Callable[..., NDArray[np.float32]]

SETTINGS = [
    AudioSettings(),
    AudioSettings(sample_rate=8000, n_mels=60),
    AudioSettings(sample_rate=16000, window_ms=25, hop_ms=10, n_mels=40, f_min=60, f_max=7600),
    AudioSettings(sample_rate=44100, n_mels=128, f_min=1200.0),
    AudioSettings(sample_rate=48000, window_ms=21.2, hop_ms=5.3, preemphasis=0.0),
    AudioSettings(sample_rate=11025, window_ms=50, hop_ms=11.1, n_mels=50),  # an odd window
]


def by_librosa(
    wave: NDArray[np.floating], s: AudioSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Magnitudes (T, F) and mel magnitudes (T, M)."""
    emphasised = lfilter([1, -s.preemphasis], [1], wave.astype(np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a wave shorter than the FFT, which is meant here
        spectrum = librosa.stft(
            emphasised, n_fft=s.fft_length, hop_length=s.hop_length, win_length=s.window_length
        )
    mel = librosa.feature.melspectrogram(
        S=np.abs(spectrum),
        sr=s.sample_rate,
        n_mels=s.n_mels,
        fmin=s.f_min,
        fmax=s.f_max or s.sample_rate / 2,
        power=1,
    )
    return np.abs(spectrum).T, mel.T


def compare(wave: NDArray[np.floating], s: AudioSettings, tolerance: float) -> None:
    front_end = FrontEnd(s)
    magnitude, mel = by_librosa(wave, s)
    floor = 10 ** (FLOOR_DB / 20)
    found = front_end.features(wave)
    assert found[0].shape == magnitude.shape == (1 + len(wave) // s.hop_length, s.n_bins)
    for got, expected in zip(found, (magnitude, mel), strict=True):
        difference = got.numpy() - np.log10(np.maximum(expected, floor))
        assert np.abs(difference).max() <= tolerance


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: str(s.sample_rate))
def test_equal_to_librosa(settings: AudioSettings, voice: Voice) -> None:
    wave = voice(settings.sample_rate, 0.7)
    compare(wave, settings, 1e-5)
    compare(wave.astype(np.float64), settings, 1e-6)


def test_equal_to_librosa_on_recordings(recording: Path) -> None:
    wave, rate = read_audio(recording)
    compare(wave, AudioSettings(sample_rate=rate, n_mels=60), 1e-5)


@pytest.mark.parametrize("length", [1, 2, 276, 500, 1023, 1024, 1103])
def test_short_waves_are_librosas_too(length: int, voice: Voice) -> None:
    compare(voice(22050, 0.2)[1000 : 1000 + length], AudioSettings(), 1e-5)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: str(s.sample_rate))
def test_mel_filters_are_librosas(settings: AudioSettings) -> None:
    expected = librosa.filters.mel(
        sr=settings.sample_rate,
        n_fft=settings.fft_length,
        n_mels=settings.n_mels,
        fmin=settings.f_min,
        fmax=settings.f_max or None,
        dtype=np.float64,
    )
    np.testing.assert_allclose(mel_filters(settings), expected.T, atol=1e-14)


def test_no_samples_give_one_silent_frame() -> None:
    front_end = FrontEnd(AudioSettings())
    linear, mel = front_end.features(torch.zeros(0))
    assert linear.shape == (1, 1025) and mel.shape == (1, 80)
    assert (linear == front_end.floor).all() and (mel == front_end.floor).all()


def test_padding_with_zeros_changes_no_frame(voice: Voice) -> None:
    front_end = FrontEnd(AudioSettings())
    wave = torch.from_numpy(voice(22050, 0.4))
    alone = front_end.features(wave)[0]
    padded = front_end.features(torch.cat([wave, torch.zeros(5000)]))[0]
    # Pre-emphasis of the last sample sounds on for one sample, which `alone` has not.
    inner = (len(wave) - 552) // 276
    torch.testing.assert_close(padded[:inner], alone[:inner])
    tail = torch.cat([wave, torch.zeros(1)])
    torch.testing.assert_close(padded[: len(alone)], front_end.features(tail)[0][: len(alone)])


def test_leading_dimensions_are_kept(voice: Voice) -> None:
    front_end = FrontEnd(AudioSettings(sample_rate=8000, n_mels=60))
    waves = torch.from_numpy(np.stack([voice(8000, 0.3, seed=i) for i in range(6)]))
    linear, mel = front_end.features(waves.view(2, 3, -1))
    assert linear.shape == (2, 3, 25, 257) and mel.shape == (2, 3, 25, 60)
    torch.testing.assert_close(linear[1, 2], front_end.features(waves[5])[0])


def test_double_waves_give_double_features_and_others_single() -> None:
    front_end = FrontEnd(AudioSettings())
    assert front_end.features(torch.zeros(400, dtype=torch.float64))[1].dtype == torch.float64
    assert front_end.features(torch.zeros(400, dtype=torch.bfloat16))[1].dtype == torch.float32


def test_integer_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="floating point wave"):
        FrontEnd(AudioSettings()).features(torch.zeros(400, dtype=torch.int16))


def test_mel_bands_between_two_bins_are_told() -> None:
    with pytest.warns(UserWarning, match="mel bands lie between two bins"):
        FrontEnd(AudioSettings(sample_rate=8000, n_mels=400))
