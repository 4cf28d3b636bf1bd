"""A first phase for Griffin-Lim: phase gradient heap integration.

In the transform by a Gaussian window the slopes of the phase follow from the log magnitude: along
time from its change across bins, along frequency from its change across frames. PGHI (Prusa, Balazs
and Sondergaard 2017, "A noniterative method for reconstruction of phase from STFT magnitude") sums
these slopes outwards from the loudest bin, continuing from the loudest bin reached so far, and so
crosses quiet bins, where the slopes are poor, last. A Hann window is near enough to a Gaussian.

It runs in C where there is a compiler (`kernels/cpu/phase.c`, whose queue is a row of stacks, one
per 0.1 neper), else through numba. T frames, F bins.
"""

import heapq
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacoskip.audio.frames import Frames
from tacoskip.kernels.cpu import spectra

# The Gaussian nearest to a Hann window of W samples is exp(-pi t^2 / (HANN W^2)) (ibid., table 1).
HANN = 0.25645
# Bins this far below the loudest keep the noise they come with, as in the paper.
TOLERANCE = 1e-3
QUEUE_STEPS = 10.0  # levels of the compiled queue per neper

Float = NDArray[np.float32]


def integrate_phase(magnitude: Float, phase: Float, frames: Frames) -> None:
    """Write the phases of magnitudes (T, F) into `phase` (T, F), radians from the window's start.

    Bins under `TOLERANCE` times the loudest stay as they are: noise, preferably.
    """
    magnitude = np.ascontiguousarray(magnitude)
    top = max(float(magnitude.max(initial=0.0)), 1e-9)
    n_fft, hop_length, window_length = frames.n_fft, frames.hop_length, frames.window_length
    bins = np.arange(magnitude.shape[1])
    # What a bin's own frequency turns in one hop, without whole turns.
    advance = (2 * np.pi * (bins * hop_length % n_fft) / n_fft).astype(np.float32)
    threshold = float(np.log(top * TOLERANCE))
    time_slope = hop_length * n_fft / (HANN * window_length**2)
    centre = -np.pi * window_length / n_fft
    height = np.log(np.maximum(magnitude, np.float32(1e-10)))
    assert phase.flags.c_contiguous and phase.dtype == np.float32
    if spectra.is_supported(torch.from_numpy(phase)):
        levels = 2 + int(-np.log(TOLERANCE) * QUEUE_STEPS)
        slopes = threshold, time_slope, -1 / time_slope, centre
        # Slopes at an edge are one-sided along time, none along frequency.
        height = np.pad(height, ((1, 1), (0, 0)), "reflect", reflect_type="odd")
        height = np.pad(height, ((0, 0), (1, 1)), "reflect")
        padded, out, turns = (torch.from_numpy(x) for x in (height, phase, advance))
        spectra.integrate(padded, out, slopes, turns, QUEUE_STEPS, levels)
        return
    across_bins, across_frames = np.zeros_like(height), np.zeros_like(height)
    across_bins[:, 1:-1] = (height[:, 2:] - height[:, :-2]) / 2
    if len(height) > 1:
        across_frames[:] = np.gradient(height, axis=0)
    # Phase to the next frame and to the next bin: the mean slope of both ends.
    to_frame = advance + time_slope / 2 * (across_bins + np.roll(across_bins, -1, axis=0))
    to_bin = centre - (across_frames + np.roll(across_frames, -1, axis=1)) / (2 * time_slope)
    waiting = height > threshold
    seeds = np.flatnonzero(waiting)
    seeds = seeds[np.argsort(-height.ravel()[seeds], kind="stable")]
    to_frame, to_bin = to_frame.astype(np.float32), to_bin.astype(np.float32)
    compiled(_spread)(phase, height, waiting, seeds, to_frame, to_bin)


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
    height: Float,
    waiting: NDArray[np.bool_],
    seeds: NDArray[np.int64],
    to_frame: Float,
    to_bin: Float,
) -> None:
    """Fill `phase` (T, F) where it is `waiting`, from each of `seeds` (flat indices) in turn."""
    frames, bins = phase.shape
    heap = [(height[0, 0], 0, 0) for _ in range(0)]
    for seed in seeds:
        if waiting[seed // bins, seed % bins]:
            t, f = seed // bins, seed % bins
            waiting[t, f], phase[t, f] = False, 0
            heapq.heappush(heap, (-height[t, f], t, f))
        while heap:
            _, t, f = heapq.heappop(heap)
            for dt, df in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                u, g = t + dt, f + df
                if 0 <= u < frames and 0 <= g < bins and waiting[u, g]:
                    step = to_frame[min(t, u), f] if dt else to_bin[t, min(f, g)]
                    phase[u, g] = phase[t, f] + (dt + df) * step
                    waiting[u, g] = False
                    heapq.heappush(heap, (-height[u, g], u, g))
