"""From CTC posteriors to text: the best unit of each frame, with times and confidence.

L encoder frames, U units; unit 0 is the blank.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Unit:
    """A unit that was heard: its index, its first and last encoder frame, its log probability."""

    index: int
    first: int
    last: int
    score: float


@dataclass(frozen=True)
class Symbol:
    """A character: when it was heard, in seconds, and its probability."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Word:
    """A word: times in seconds; confidence, the geometric mean of its characters'."""

    text: str
    start: float
    end: float
    confidence: float
    symbols: tuple[Symbol, ...] = field(repr=False, default=())


def frames_needed(units: Sequence[int]) -> int:
    """Encoder frames that CTC needs for units: one each, one more between two that are equal."""
    return len(units) + sum(a == b for a, b in pairwise(units))


def greedy(log_probs: Tensor) -> list[Unit]:
    """Return the units of the likeliest path through (L, U): repeats merged, blanks left out."""
    scores, best = (x.tolist() for x in log_probs.max(1))
    units: list[Unit] = []
    for frame, (index, score) in enumerate(zip(best, scores, strict=True)):
        if index == 0:
            continue
        if frame and best[frame - 1] == index:
            run = units[-1]
            units[-1] = Unit(index, run.first, frame, max(run.score, score))
        else:
            units.append(Unit(index, frame, frame, score))
    return units


def greedy_batch(log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
    """Return the greedy units of each utterance of log_probs (B, L, U), lengths (B,)."""
    best = log_probs.argmax(2).cpu()
    found = []
    for row, length in zip(best, lengths.tolist(), strict=True):
        merged = torch.unique_consecutive(row[:length])
        found.append(merged[merged > 0].tolist())
    return found


def words_of(
    units: Sequence[Unit],
    name: Callable[[int], str],
    frame_seconds: float,
    offset: float = 0.0,
) -> list[Word]:
    """Gather units into words at their spaces.

    name: a unit's text, one or more characters; a space in it begins a word. offset: seconds at
    which the first frame stands. Characters of one unit share its time evenly.
    """
    words: list[list[Symbol]] = [[]]
    for unit in units:
        text = name(unit.index)
        start, end = unit.first * frame_seconds, (unit.last + 1) * frame_seconds
        share = (end - start) / max(len(text), 1)
        for place, character in enumerate(text):
            if character == " ":
                words.append([])
                continue
            at = offset + start + place * share
            words[-1].append(Symbol(character, at, at + share, math.exp(min(unit.score, 0.0))))
    return [_word(symbols) for symbols in words if symbols]


def _word(symbols: list[Symbol]) -> Word:
    return Word(
        text="".join(symbol.text for symbol in symbols),
        start=symbols[0].start,
        end=symbols[-1].end,
        confidence=confidence(symbols),
        symbols=tuple(symbols),
    )


def confidence(heard: Iterable[Symbol | Word]) -> float:
    """Return the geometric mean of probabilities; 0 where nothing was heard."""
    logs = [math.log(max(one.confidence, 1e-30)) for one in heard]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0
