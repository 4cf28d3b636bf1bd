"""A first phase for Griffin-Lim: phase gradient heap integration.

In the transform by a Gaussian window the slopes of the phase follow from the log magnitude: along
time from its change across bins, along frequency from its change across frames. PGHI (Prusa, Balazs
and Sondergaard 2017, "A noniterative method for reconstruction of phase from STFT magnitude") sums
these slopes outwards from the loudest bin, continuing from the loudest bin reached so far, and so
crosses quiet bins, where the slopes are poor, last. A Hann window is near enough to a Gaussian.

Departures: the priority queue is a row of stacks, one per 0.1 neper, several times as fast as a
heap; and frames whose phase is known can be given, so that a stream continues from its last chunk
(as Prusa and Sondergaard 2016 do frame by frame). It runs in C where there is a compiler
(`kernels/cpu/phase.c`), else through numba. T frames, F bins.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

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

    The first `n_known` frames of `phase` stay, and the others continue from them. Bins under
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
    source = torch.from_numpy(np.ascontiguousarray(magnitude))
    assert phase.flags.c_contiguous and phase.dtype == np.float32
    if spectra.is_supported(source):
        levels = 2 + int(-np.log(TOLERANCE) * QUEUE_STEPS)
        arrays = torch.from_numpy(phase), n_known, slopes, torch.from_numpy(advance)
        spectra.integrate(source, *arrays, QUEUE_STEPS, levels)
    else:
        height = np.log(np.maximum(magnitude, np.float32(1e-10)))
        _integrate(height, phase, n_known, slopes, advance)


def _integrate(
    height: Float,
    phase: Float,
    n_known: int,
    slopes: tuple[float, float, float, float],
    advance: Float,
) -> None:
    """Integrate from log magnitudes `height` (T, F) by numba.

    slopes: log threshold, slope of time, of frequency, of the window's centre. advance (F,).
    """
    threshold, time_slope, frequency_slope, centre = slopes
    across_bins, across_frames = np.zeros_like(height), np.zeros_like(height)
    across_bins[:, 1:-1] = (height[:, 2:] - height[:, :-2]) / 2
    if len(height) > 1:
        across_frames[:] = np.gradient(height, axis=0)
    # Phase to the next frame and to the next bin: the mean slope of both ends.
    to_frame = advance + time_slope / 2 * (across_bins + np.roll(across_bins, -1, axis=0))
    to_bin = centre + frequency_slope / 2 * (across_frames + np.roll(across_frames, -1, axis=1))
    level = ((height.reshape(-1) - threshold) * QUEUE_STEPS).astype(np.int32)
    loud = height.reshape(-1) > threshold
    known = n_known * height.shape[1]
    border = max(0, known - height.shape[1]) + np.flatnonzero(loud[:known][-height.shape[1] :])
    loud[:known] = False
    seeds = np.flatnonzero(loud)[::-1]
    seeds = np.concatenate([[-1], seeds[np.argsort(-level[seeds], kind="stable")]])
    steps = to_frame.astype(np.float32).reshape(-1), to_bin.astype(np.float32)
    compiled(_spread)(phase.reshape(-1), loud, level, border, seeds, *steps)


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function by numba, which keeps the result where it finds a folder to write to."""
    import numba

    try:
        result: Callable[..., Any] = numba.njit(cache=True)(function)
    except (RuntimeError, OSError):  # no such folder, or a full disk
        result = numba.njit(function)
    return result


def _spread(
    phase: Float,
    waiting: NDArray[np.bool_],
    level: NDArray[np.int32],
    border: NDArray[np.int64],
    seeds: NDArray[np.int64],
    to_frame: Float,
    to_bin: Float,
) -> None:
    """Fill `phase` (T F,) where it is `waiting`, first from `border`, then from each of `seeds`.

    The first seed is -1 and stands for the border. Loops for numba, over flat indices.
    """
    bins = to_bin.shape[1]
    by_bin = to_bin.ravel()
    stacks = np.full(max(0, level.max()) + 1, -1, np.int64)  # each level's last bin with a phase
    below = np.empty(len(phase), np.int64)  # the bin under each bin in its stack
    best = -1
    for here in border:
        below[here], stacks[level[here]] = stacks[level[here]], here
        best = max(best, level[here])
    for seed in seeds:
        if seed >= 0:
            if not waiting[seed]:
                continue
            waiting[seed], phase[seed] = False, 0
            best = level[seed]
            below[seed], stacks[best] = -1, seed
        while best >= 0:
            here = stacks[best]
            if here < 0:
                best -= 1
                continue
            stacks[best] = below[here]
            for there in (here + bins, here - bins, here + 1, here - 1):
                if there < 0 or there >= len(phase) or not waiting[there]:
                    continue
                if abs(there - here) == bins:
                    step = to_frame[here] if there > here else -to_frame[there]
                elif there // bins == here // bins:
                    step = by_bin[here] if there > here else -by_bin[there]
                else:  # another frame's bin
                    continue
                phase[there] = phase[here] + step
                waiting[there] = False
                below[there], stacks[level[there]] = stacks[level[there]], there
                best = max(best, level[there])
