"""A first phase for Griffin-Lim: phase gradient heap integration.

In the transform by a Gaussian window the slopes of the phase follow from the log magnitude: along
time from its change across bins, along frequency from its change across frames. PGHI (Prusa, Balazs
and Sondergaard 2017, "A noniterative method for reconstruction of phase from STFT magnitude") sums
these slopes outwards from the loudest bin, continuing from the loudest bin reached so far, and so
crosses quiet bins, where the slopes are poor, last. A Hann window is near enough to a Gaussian.

Departures: the priority queue is a row of stacks, one per 0.1 neper, several times as fast as a
heap; and frames whose phase is known can be given, so that a stream continues from its last chunk
(as Prusa and Sondergaard 2016 do frame by frame). It runs in C where there is a compiler
(`kernels/cpu/phase.c`), else through numba (`phase_numba.py`). T frames, F bins.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from tacoskip.kernels.cpu import spectra

# The Gaussian nearest to a Hann window of W samples is exp(-pi t^2 / (HANN W^2)) (ibid., table 1).
HANN = 0.25645
# Bins this far below the loudest keep the noise they come with, as in the paper.
TOLERANCE = 1e-3
QUEUE_STEPS = 10.0  # levels of the queue per neper

Float = NDArray[np.float32]


def integrate_phase(
    magnitude: Float,
    phase: Float,
    n_fft: int,
    hop_length: int,
    window_length: int,
    n_known: int = 0,
    loudest: float = 0.0,
) -> None:
    """Write the phases of magnitudes (T, F) into `phase` (T, F), radians from the window's start.

    The first `n_known` frames of `phase` stay, and the others go on from them. Bins under
    `TOLERANCE` times the loudest, here or of magnitude `loudest` before, stay as they are: noise,
    preferably.
    """
    top = max(float(magnitude.max(initial=0.0)), loudest, 1e-9)
    shape = HANN * window_length**2
    bins = np.arange(magnitude.shape[1])
    # What a bin's own frequency turns in one hop, without whole turns.
    advance = (2 * np.pi * (bins * hop_length % n_fft) / n_fft).astype(np.float32)
    threshold = float(np.log(top * TOLERANCE))
    time_slope = hop_length * n_fft / shape
    slopes = threshold, time_slope, -1 / time_slope, -np.pi * window_length / n_fft
    given = torch.from_numpy(np.ascontiguousarray(magnitude))
    if spectra.is_supported(given):
        assert phase.flags.c_contiguous and phase.dtype == np.float32
        levels = 2 + int(-np.log(TOLERANCE) * QUEUE_STEPS)
        arrays = torch.from_numpy(phase), n_known, slopes, torch.from_numpy(advance)
        spectra.integrate(given, *arrays, QUEUE_STEPS, levels)
        return
    from tacoskip.audio.phase_numba import integrate

    heights = np.log(np.maximum(magnitude, np.float32(1e-10)))
    numbers = tuple(np.float32(slope) for slope in slopes)
    steps = np.float32(QUEUE_STEPS)
    integrate(np.ascontiguousarray(heights), phase, n_known, numbers, advance, steps)
