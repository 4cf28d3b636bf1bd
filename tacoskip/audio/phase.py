"""A first phase for Griffin-Lim: phase gradient heap integration.

In the transform by a Gaussian window the slopes of the phase follow from the log magnitude: along
time from its change across bins, along frequency from its change across frames. PGHI (Prusa, Balazs
and Sondergaard 2017, "A noniterative method for reconstruction of phase from STFT magnitude") sums
these slopes outwards from the loudest bin, going on from the loudest bin reached so far, and so
crosses quiet bins, where the slopes are poor, last. A Hann window is near enough to a Gaussian.

Departures: the priority queue is a row of stacks, one per 0.1 neper, several times as fast as a
heap and as good; and frames whose phase is known can be given, so that a stream goes on where it
stood (as Prusa and Sondergaard 2016 do for one frame at a time). It runs in C where that can be
compiled (`kernels/cpu/phase.c`), else by numba. T frames, F bins.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from tacoskip.kernels.cpu import spectra

# The Gaussian nearest to a Hann window of W samples is exp(-pi t^2 / (HANN W^2)) (ibid., table 1).
HANN = 0.25645
# Bins this far below the loudest keep the noise they come with, as in the paper.
TOLERANCE = 1e-3
_QUEUE_STEP = 0.1

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
    if spectra.takes(given):
        assert phase.flags.c_contiguous and phase.dtype == np.float32
        steps = 1 / _QUEUE_STEP
        levels = 2 + int(-np.log(TOLERANCE) * steps)
        places = torch.from_numpy(phase), n_known, slopes, torch.from_numpy(advance)
        spectra.integrate(given, *places, steps, levels)
        return
    _compiled()(
        np.ascontiguousarray(np.log(np.maximum(magnitude, np.float32(1e-10)))),
        phase,
        n_known,
        np.float32(slopes[0]),
        np.float32(slopes[1]),
        advance,
        *(np.float32(slope) for slope in slopes[2:]),
    )


@cache
def _compiled() -> Callable[..., None]:
    """Compile at first use; numba keeps the result where it finds a folder to write to."""
    import numba

    signature = "void(f4[:,::1], f4[:,::1], i8, f4, f4, f4[::1], f4, f4)"
    try:
        compiled: Callable[..., None] = numba.njit(signature, cache=True)(_integrate)
    except (RuntimeError, OSError):  # no such folder, or a full disk
        compiled = numba.njit(signature)(_integrate)
    return compiled


def _integrate(
    log_magnitude: Float,
    phase: Float,
    known: int,
    threshold: np.float32,
    time_slope: np.float32,
    advance: Float,
    frequency_slope: np.float32,
    window_centre: np.float32,
) -> None:
    """Fill `phase`. Plain loops, for numba; a step's slope is the mean of those at its two bins."""
    frames, bins = log_magnitude.shape
    size = frames * bins
    height = log_magnitude.reshape(-1)
    angle = phase.reshape(-1)
    levels = 1 + int(max(np.float32(0), height.max() - threshold) / _QUEUE_STEP)
    # Two rows of stacks, linked through one array each: bins reached, and bins still without phase.
    reached = np.full(levels, -1, np.int32)
    seeds = np.full(levels, -1, np.int32)
    below_reached = np.empty(size, np.int32)
    below_seed = np.empty(size, np.int32)
    waiting = np.zeros(size, np.uint8)
    best, best_seed = -1, levels - 1
    for here in range(max(0, known - 1) * bins, size):
        if height[here] <= threshold:
            continue
        level = int((height[here] - threshold) / _QUEUE_STEP)
        if here < known * bins:
            below_reached[here] = reached[level]
            reached[level] = here
            best = max(best, level)
        else:
            below_seed[here] = seeds[level]
            seeds[level] = here
            waiting[here] = 1
    while True:
        while best >= 0 and reached[best] < 0:
            best -= 1
        if best >= 0:
            here = reached[best]
            reached[best] = below_reached[here]
        else:  # nothing in reach: begin anew at the loudest bin left
            while best_seed >= 0 and (seeds[best_seed] < 0 or not waiting[seeds[best_seed]]):
                if seeds[best_seed] < 0:
                    best_seed -= 1
                else:
                    seeds[best_seed] = below_seed[seeds[best_seed]]
            if best_seed < 0:
                return
            here = seeds[best_seed]
            waiting[here] = 0
            angle[here] = 0
        frame, row = here // bins, here % bins
        for direction in range(4):
            along_time = direction < 2
            sign = 1 - 2 * (direction % 2)
            there = here + sign * (bins if along_time else 1)
            if along_time:
                if there < 0 or there >= size or not waiting[there]:
                    continue
                step = advance[row]
                if 0 < row < bins - 1:
                    across = height[here + 1] - height[here - 1]
                    across += height[there + 1] - height[there - 1]
                    step += np.float32(0.25) * time_slope * across
            else:
                if row + sign < 0 or row + sign >= bins or not waiting[there]:
                    continue
                after = bins if frame < frames - 1 else 0
                before = bins if frame > 0 else 0
                across = height[here + after] - height[here - before]
                across += height[there + after] - height[there - before]
                share = np.float32(0.25 if after and before else 0.5)
                step = window_centre + share * frequency_slope * across
            angle[there] = angle[here] + sign * step
            waiting[there] = 0
            level = int((height[there] - threshold) / _QUEUE_STEP)
            below_reached[there] = reached[level]
            reached[level] = there
            best = max(best, level)
