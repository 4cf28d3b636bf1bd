"""Phase gradient heap integration in plain loops that numba compiles; see `phase.py`.

For machines without a C compiler. Imported on first use, which compiles or loads the cache. T
frames, F bins; `height` (T, F) is the log magnitude, indexed flat.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Int = NDArray[np.int32]
Slopes = tuple[float, float, float, float]  # log threshold, of time, of frequency, of the centre


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile; numba keeps the result where it finds a folder to write to."""
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True)(function)
    except (RuntimeError, OSError):  # no such folder, or a full disk
        compiled = numba.njit(function)
    return compiled


@_compile
def _push(stacks: Int, below: Int, level: int, item: int) -> None:
    below[item] = stacks[level]
    stacks[level] = item


@_compile
def _next_seed(seeds: Int, below: Int, waiting: NDArray[np.uint8], level: int) -> int:
    """The highest level, from `level` down, whose top still waits for a phase; -1: none."""
    while level >= 0 and (seeds[level] < 0 or not waiting[seeds[level]]):
        if seeds[level] < 0:
            level -= 1
        else:
            seeds[level] = below[seeds[level]]
    return level


@_compile
def _time_step(height: Float, here: int, there: int, bins: int, slope: float) -> float:
    """Phase from one frame to the next beyond the bin's own frequency: mean slope of both bins."""
    if not 0 < here % bins < bins - 1:
        return np.float32(0)  # type: ignore[return-value]
    across = height[here + 1] - height[here - 1] + height[there + 1] - height[there - 1]
    return np.float32(0.25) * slope * across


@_compile
def _bin_step(
    height: Float, here: int, there: int, frames: int, bins: int, slope: float, centre: float
) -> float:
    """Phase from one bin to the next: mean slope of both bins."""
    frame = here // bins
    after = bins if frame < frames - 1 else 0
    before = bins if frame > 0 else 0
    across = height[here + after] - height[here - before]
    across += height[there + after] - height[there - before]
    return centre + np.float32(0.25 if after and before else 0.5) * slope * across


@_compile
def _spread(
    height: Float, advance: Float, item: int, direction: int, frames: int, slopes: Slopes
) -> tuple[int, float]:
    """The neighbour of a bin in one of four directions (-1: none), and the phase to it."""
    _, time_slope, frequency_slope, centre = slopes
    bins = len(advance)
    row, sign = item % bins, 1 - 2 * (direction % 2)
    if direction < 2:
        there = item + sign * bins
        if there < 0 or there >= frames * bins:
            return -1, 0.0
        step = advance[row] + _time_step(height, item, there, bins, time_slope)
    else:
        there = item + sign
        if row + sign < 0 or row + sign >= bins:
            return -1, 0.0
        step = _bin_step(height, item, there, frames, bins, frequency_slope, centre)
    return there, sign * step


@_compile
def integrate(
    log_magnitude: Float,
    phase: Float,
    known: int,
    slopes: Slopes,
    advance: Float,
    steps: float,
) -> None:
    """Fill `phase` (T, F) from frame `known` on, outwards from the loudest bin.

    slopes: log threshold, slope of time, of frequency, of the window's centre. advance (F,): what a
    bin's own frequency turns in one hop. steps: levels of the queue per neper.
    """
    threshold = slopes[0]
    frames, bins = log_magnitude.shape
    size = frames * bins
    height, angle = log_magnitude.reshape(-1), phase.reshape(-1)
    levels = 1 + int(max(np.float32(0), height.max() - threshold) * steps)
    # Two rows of stacks: bins that have a phase, and bins that wait for one.
    reached, below_reached = np.full(levels, -1, np.int32), np.empty(size, np.int32)
    seeds, below_seed = np.full(levels, -1, np.int32), np.empty(size, np.int32)
    waiting = np.zeros(size, np.uint8)
    best, best_seed = -1, levels - 1
    for here in range(max(0, known - 1) * bins, size):
        if height[here] <= threshold:
            continue
        level = int((height[here] - threshold) * steps)
        if here < known * bins:
            _push(reached, below_reached, level, here)
            best = max(best, level)
        else:
            _push(seeds, below_seed, level, here)
            waiting[here] = 1
    while True:
        while best >= 0 and reached[best] < 0:
            best -= 1
        if best >= 0:
            here = reached[best]
            reached[best] = below_reached[here]
        else:  # nothing in reach: start anew at the loudest bin left
            best_seed = _next_seed(seeds, below_seed, waiting, best_seed)
            if best_seed < 0:
                return
            here = seeds[best_seed]
            waiting[here] = 0
            angle[here] = 0
        for direction in range(4):
            there, step = _spread(height, advance, here, direction, frames, slopes)
            if there < 0 or not waiting[there]:
                continue
            angle[there] = angle[here] + step
            waiting[there] = 0
            level = int((height[there] - threshold) * steps)
            _push(reached, below_reached, level, there)
            best = max(best, level)
