"""Loudness of a wave in LUFS (ITU-R BS.1770-4), one channel. N samples."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

BLOCK_SECONDS, HOP_SECONDS = 0.4, 0.1
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0  # LUFS; LU below the mean of what passes the first
# The two filters of K-weighting: frequency in Hz, quality, gain in dB.
SHELF = (1681.974450955533, 0.7071752369554196, 3.999843853973347)
HIGH_PASS = (38.13547087602444, 0.5003270373238773)


def loudness(wave: NDArray[np.float32], sample_rate: int) -> float:
    """Return the integrated loudness of a wave (N,) in LUFS, -inf for silence."""
    from scipy.signal import lfilter

    weighted = np.asarray(wave, dtype=np.float64)
    for numerator, denominator in _k_weighting(sample_rate):
        weighted = lfilter(numerator, denominator, weighted)
    block, hop = round(BLOCK_SECONDS * sample_rate), round(HOP_SECONDS * sample_rate)
    weighted = np.pad(weighted, (0, max(0, block - len(weighted))))
    power = np.square(sliding_window_view(weighted, block)[::hop]).mean(axis=1)
    power = power[_lufs(power) > ABSOLUTE_GATE]
    if not len(power):
        return -np.inf
    power = power[_lufs(power) > _lufs(power.mean()) + RELATIVE_GATE]
    return float(_lufs(power.mean()))


def _lufs(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(-0.691 + 10 * np.log10(np.maximum(power, 1e-20)))


def _k_weighting(rate: int) -> list[tuple[list[float], list[float]]]:
    """Return numerator and denominator of both filters, by the bilinear transform."""
    frequency, quality, gain_db = SHELF
    k, high = np.tan(np.pi * frequency / rate), 10 ** (gain_db / 20)
    band = high**0.4996667741545416
    shelf = [
        high + band * k / quality + k * k,
        2 * (k * k - high),
        high - band * k / quality + k * k,
    ]
    poles = [1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k]
    frequency, quality = HIGH_PASS
    k = np.tan(np.pi * frequency / rate)
    scale = 1 + k / quality + k * k
    ends = [1.0, 2 * (k * k - 1) / scale, (1 - k / quality + k * k) / scale]
    return [(shelf, poles), ([1.0, -2.0, 1.0], ends)]
