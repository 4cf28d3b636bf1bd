"""Pre-emphasis lifts what is high and quiet, de-emphasis undoes it: y[n] = x[n] - c x[n - 1].

Both equal `scipy.signal.lfilter` from silence. N samples.
"""

import torch
from torch import Tensor
from torch.nn import functional

from tacoskip.kernels.cpu import spectra

_BLOCK = 256


def preemphasis(wave: Tensor, coefficient: float) -> Tensor:
    """Filter waves (..., N): wave[n] - coefficient * wave[n - 1]."""
    if coefficient == 0 or wave.shape[-1] == 0:
        return wave
    return wave - coefficient * functional.pad(wave[..., :-1], (1, 0))


def deemphasis(wave: Tensor, coefficient: float, last: float | Tensor = 0.0) -> Tensor:
    """Filter a wave (N,): y[n] = wave[n] + coefficient * y[n - 1], where y[-1] = `last`.

    A matrix runs the filter inside blocks; the filter itself, its coefficient raised to the
    block's length, runs over the blocks' ends. Nothing is clamped, as torchaudio's `deemphasis`
    does: a wave that is too loud shows.
    """
    if spectra.is_supported(wave):
        return spectra.deemphasise(wave, coefficient, float(last))
    rows = functional.pad(wave, (0, -len(wave) % _BLOCK)).view(-1, _BLOCK)
    delay = torch.arange(_BLOCK, device=wave.device)
    response = coefficient ** (delay[:, None] - delay).clamp_min(0).to(wave.dtype)
    inside = rows @ response.tril().T
    carried = torch.as_tensor(last).to(wave).reshape(1)
    if len(rows) > 1:
        ends = deemphasis(inside[:-1, -1], coefficient**_BLOCK, last)
        carried = torch.cat([carried, ends])
    decay = coefficient ** (delay + 1).to(wave.dtype)
    return (inside + carried[: len(rows), None] * decay).view(-1)[: len(wave)]
