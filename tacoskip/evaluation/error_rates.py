"""Errors of what was heard against what was said: characters, words, and which.

By jiwer's alignment of least edit distance (insertions, deletions, substitutions cost 1 each).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Errors:
    """Edits between texts, counted in words or in characters; `length` is what was said."""

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def total(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors over length; where nothing was said, 1 if something was heard."""
        return self.total / self.length if self.length else float(self.total > 0)

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.length + other.length,
        )


NONE = Errors(0, 0, 0, 0)


def word_errors(said: str, heard: str) -> Errors:
    """Count the edits of words that turn `said` into `heard`."""
    words = len(said.split())
    if not words:
        return Errors(0, 0, len(heard.split()), 0)
    found = jiwer.process_words(said, heard)
    return Errors(found.substitutions, found.deletions, found.insertions, words)


def character_errors(said: str, heard: str) -> Errors:
    """Count the edits of characters, spaces among them, that turn `said` into `heard`."""
    if not said:
        return Errors(0, 0, len(heard), 0)
    found = jiwer.process_characters(said, heard)
    return Errors(found.substitutions, found.deletions, found.insertions, len(said))


def cer(said: Sequence[str], heard: Sequence[str]) -> float:
    """Return the character errors of all texts over their characters."""
    return sum(map(character_errors, said, heard), NONE).rate


def wer(said: Sequence[str], heard: Sequence[str]) -> float:
    """Return the word errors of all texts over their words."""
    return sum(map(word_errors, said, heard), NONE).rate


def confusions(said: Sequence[str], heard: Sequence[str]) -> Counter[tuple[str, str]]:
    """Count (said, heard) characters that differ; "" stands where there was none."""
    counts: Counter[tuple[str, str]] = Counter()
    for reference, hypothesis in zip(said, heard, strict=True):
        if not reference:
            counts.update(("", c) for c in hypothesis)
            continue
        for chunk in jiwer.process_characters(reference, hypothesis).alignments[0]:
            if chunk.type == "equal":
                continue
            a = reference[chunk.ref_start_idx : chunk.ref_end_idx]
            b = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
            for place in range(max(len(a), len(b))):
                counts[a[place : place + 1], b[place : place + 1]] += 1
    return counts


def interval(groups: Sequence[Sequence[Errors]], seed: int = 0) -> dict[str, float | int]:
    """Return the rate of all errors together with its 95 % percentile bootstrap over groups.

    n counts the utterances.
    """
    sums = [sum(group, NONE) for group in groups]
    table = np.array([(group.total, group.length) for group in sums], dtype=np.float64)
    rng = np.random.default_rng(seed)
    drawn = table[rng.integers(len(table), size=(RESAMPLES, len(table)))].sum(axis=1)
    rates = drawn[:, 0] / np.maximum(drawn[:, 1], 1)
    low, high = np.percentile(rates, [2.5, 97.5])
    return {
        "mean": sum(sums, NONE).rate,
        "low": float(low),
        "high": float(high),
        "n": sum(map(len, groups)),
    }
