"""How well attention read a text: a score, and warnings in plain words.

T decoder steps, S symbols.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

MAX_ADVANCE = 4  # symbols one decoder step may advance and still have read what it passed
LEAST_MONOTONIC, LEAST_SHARPNESS = 0.8, 0.2  # `alignment_warnings` reports lower values


@dataclass(frozen=True)
class AlignmentScore:
    """How attention read the text, measured on the heaviest path that never goes back.

    sharpness: mean weight on the path. coverage: share of symbols read. monotonic: share of steps
    whose largest weight is on the path (within one symbol) and that do not jump. reached_end:
    whether the last symbols were read. score: the product of the three shares, the figure called
    `alignment`. last_symbol: index of the last symbol read. skipped: first and last index of each
    run of symbols that a jump left out.
    """

    sharpness: float
    coverage: float
    monotonic: float
    reached_end: bool
    score: float
    last_symbol: int
    skipped: tuple[tuple[int, int], ...]


def monotonic_path(weights: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the symbol (T,) of each step on the heaviest path through (T, S) that never goes back.

    Dynamic programming; jumps forward are free, so that they can be seen and counted. Ties stay
    where they are.
    """
    steps, symbols = weights.shape
    index = np.arange(symbols)
    previous = np.zeros((steps, symbols), dtype=np.intp)
    total = weights[0]
    for step in range(1, steps):
        best = np.maximum.accumulate(total)
        previous[step] = np.maximum.accumulate(np.where(total >= best, index, 0))
        total = best + weights[step]
    path = np.zeros(steps, dtype=np.intp)
    path[-1] = int(total.argmax())
    for step in range(steps - 1, 0, -1):
        path[step - 1] = previous[step, path[step]]
    return path


def alignment_score(alignment: NDArray[Any] | Tensor) -> AlignmentScore:
    """Score attention weights (T, S).

    A symbol is read when the path rests on it with at least half of that step's largest weight, or
    is passed in an advance of up to MAX_ADVANCE symbols (half the text when that is less), as a
    silent letter or a quick word is. Random sharp attention scores low because no path that never
    goes back holds its weight. NaN counts as 0. Raises ValueError for an empty alignment.
    """
    weights = np.nan_to_num(np.asarray(alignment, dtype=np.float64))
    if weights.ndim != 2 or not weights.size:
        raise ValueError(f"expected a non-empty alignment (T, S), got shape {weights.shape}")
    steps, symbols = weights.shape
    path = monotonic_path(weights)
    on_path = weights[np.arange(steps), path]
    read = np.unique(path[(on_path >= 0.5 * weights.max(axis=1)) & (on_path > 0)])
    reach = min(MAX_ADVANCE, max(1, symbols // 2))
    edges = np.concatenate([[-1], read, [symbols]])
    unread = [(int(a) + 1, int(b) - 1) for a, b in pairwise(edges) if b - a > reach]
    last = int(edges[-2])
    reached_end = symbols - last <= reach
    coverage = 1 - sum(b - a + 1 for a, b in unread) / symbols
    near_path = np.abs(weights.argmax(axis=1) - path) <= 1
    sharpness = float(on_path.mean())
    monotonic = float((near_path & (np.diff(path, prepend=path[0]) <= reach)).mean())
    return AlignmentScore(
        sharpness=sharpness,
        coverage=coverage,
        monotonic=monotonic,
        reached_end=reached_end,
        score=sharpness * coverage * monotonic,
        last_symbol=max(last, 0),
        skipped=tuple(unread if reached_end else unread[:-1]),
    )


def alignment_warnings(alignment: NDArray[Any] | Tensor, stopped: bool) -> list[str]:
    """Name what went wrong with attention (T, S), counting steps and symbols from 1.

    stopped: whether the decoder ended by itself.
    """
    found = alignment_score(alignment)
    steps, symbols = alignment.shape
    warnings = []
    for first, last in found.skipped:
        where = f"symbol {first + 1}" if first == last else f"symbols {first + 1} to {last + 1}"
        warnings.append(f"attention skipped {where} of {symbols}")
    if not found.reached_end:
        verb = "speech stopped early" if stopped else "attention stuck"
        warnings.append(f"{verb} at symbol {found.last_symbol + 1} of {symbols}")
    if found.monotonic < LEAST_MONOTONIC:
        lost = round(steps * (1 - found.monotonic))
        warnings.append(f"attention went back or jumped in {lost} of {steps} steps")
    if found.sharpness < LEAST_SHARPNESS:
        warnings.append(f"attention is blurred (mean weight {found.sharpness:.2f})")
    if not stopped:
        warnings.append("speech did not stop by itself")
    return warnings
