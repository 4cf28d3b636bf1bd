"""Errors of transcripts against their references, in characters and words.

By jiwer's alignment of least edit distance (insertions, deletions, substitutions cost 1 each).
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from operator import add

import jiwer

from tacoskip.evaluation.results import Figure, bootstrap


@dataclass(frozen=True)
class Errors:
    """Edits between texts, counted in words or in characters; `length` is the reference's."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0

    @property
    def total(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors over length; for an empty reference 1 if there are errors, else 0."""
        return self.total / self.length if self.length else float(self.total > 0)

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(*map(add, astuple(self), astuple(other)))


NONE = Errors()


def word_errors(reference: str, hypothesis: str) -> Errors:
    """Count the edits of words from the reference to the hypothesis."""
    if not reference.split():
        return Errors(insertions=len(hypothesis.split()))
    edits = jiwer.process_words(reference, hypothesis)
    return Errors(edits.substitutions, edits.deletions, edits.insertions, len(reference.split()))


def character_errors(reference: str, hypothesis: str) -> Errors:
    """Count the edits of characters, spaces included, from the reference to the hypothesis."""
    if not reference:
        return Errors(insertions=len(hypothesis))
    edits = jiwer.process_characters(reference, hypothesis)
    return Errors(edits.substitutions, edits.deletions, edits.insertions, len(reference))


def cer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return the character errors of all texts over their characters."""
    return sum(map(character_errors, references, hypotheses), NONE).rate


def wer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return the word errors of all texts over their words."""
    return sum(map(word_errors, references, hypotheses), NONE).rate


def over_mean_length(errors: Sequence[Errors]) -> list[float]:
    """Return each text's errors over the mean length: their mean is the rate of all texts."""
    mean = sum(errors, NONE).length / max(len(errors), 1)
    return [one.total / max(mean, 1) for one in errors]


def interval(groups: Sequence[Sequence[Errors]], seed: int = 0) -> Figure:
    """Return the rate of all errors and its bootstrap over groups; n counts utterances."""
    sums = [sum(group, NONE) for group in groups]
    figure = bootstrap([one.total for one in sums], [one.length for one in sums], seed)
    return figure | {"mean": sum(sums, NONE).rate, "n": sum(map(len, groups))}
