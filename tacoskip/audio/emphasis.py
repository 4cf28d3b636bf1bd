"""Pre-emphasis lifts what is high and quiet, de-emphasis undoes it: y[n] = x[n] - c x[n - 1].

Both equal `scipy.signal.lfilter` from silence. N samples.
"""

import torch
from torch import Tensor
from torch.nn import functional

from tacoskip.kernels.cpu import spectra


def preemphasis(wave: Tensor, coefficient: float) -> Tensor:
    """Filter waves (..., N): wave[n] - coefficient * wave[n - 1]."""
    if coefficient == 0 or wave.shape[-1] == 0:
        return wave
    return wave - coefficient * functional.pad(wave[..., :-1], (1, 0))


def deemphasis(wave: Tensor, coefficient: float, last: float = 0.0) -> Tensor:
    """Filter a wave (N,) on the CPU: y[n] = wave[n] + coefficient * y[n - 1], y[-1] = `last`.

    Nothing is clamped, as torchaudio's `deemphasis` does: a wave that is too loud shows.
    """
    if spectra.is_supported(wave):
        return spectra.deemphasise(wave, coefficient, last)
    from scipy.signal import lfilter

    filtered, _ = lfilter([1.0], [1.0, -coefficient], wave.double(), zi=[coefficient * last])
    return torch.from_numpy(filtered).to(wave.dtype)
