"""Training clips changed a little each time they come: speed, near-silence around, noise.

Ko et al. 2015, "Audio augmentation for speech recognition". N samples.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from tacoskip.data.clip import PAUSE_LEVEL
from tacoskip.data.settings import AugmentSettings


def perturbed(
    wave: NDArray[np.float32], sample_rate: int, settings: AugmentSettings, key: str
) -> NDArray[np.float32]:
    """Return a changed copy of a wave (N,); the same `key` draws the same change."""
    rng = np.random.default_rng(list(key.encode()))
    if settings.speed:
        wave = faster(wave, sample_rate, float(rng.choice(settings.speed)))
    if settings.silence_seconds:
        most = settings.silence_seconds * sample_rate
        before, after = (int(rng.uniform(0, most)) for _ in range(2))
        quiet = rng.standard_normal(before + len(wave) + after, dtype=np.float32)
        quiet *= np.float32(PAUSE_LEVEL)
        quiet[before : before + len(wave)] += wave
        wave = quiet
    if settings.noise_db and rng.random() < settings.noise_share:
        wave = noisy(wave, rng.uniform(settings.noise_db[0], settings.noise_db[1]), rng)
    return wave


def faster(wave: NDArray[np.float32], sample_rate: int, factor: float) -> NDArray[np.float32]:
    """Play a wave (N,) `factor` times as fast, as a tape would: higher, and N / factor long."""
    import soxr

    if factor == 1:
        return wave
    return np.asarray(soxr.resample(wave, sample_rate * factor, sample_rate), dtype=np.float32)


def noisy(
    wave: NDArray[np.float32], snr_db: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Add noise of a colour drawn between white and brown, `snr_db` below the wave (N,)."""
    length = next_fast_len(len(wave), real=True)  # a prime one takes many times as long
    spectrum = rfft(rng.standard_normal(length))
    spectrum /= np.arange(1, len(spectrum) + 1) ** rng.uniform(0, 1)
    noise = irfft(spectrum, length)[: len(wave)]
    level = np.sqrt(np.mean(np.square(wave, dtype=np.float64))) * 10 ** (-snr_db / 20)
    noise *= level / max(float(np.sqrt(np.mean(noise**2))), 1e-12)
    return np.asarray(wave + noise, np.float32)
