"""Long text: the sentences that a network reads, and the pauses between their waves.

N samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacoskip.text import split_sentences
from tacoskip.text.markup import parse

SENTENCE_CHARACTERS = 200
SENTENCE_BATCH = 32
SENTENCE_PAUSE_SECONDS, TEXT_PAUSE_SECONDS = 0.12, 0.4


@dataclass
class Script:
    """A text in sentences, and the seconds of silence before each and after the last."""

    sentences: list[str]
    pauses: list[float]


def read_script(text: str, lexicon: Mapping[str, str] | None = None) -> Script:
    """Split a text into sentences at their ends and at marks of a pause.

    Signs between sentences have no sound, but espeak may know a name for a sign alone. Raises
    ValueError for a text without words and for a pause without a valid time.
    """
    sentences, pauses, marked = list[str](), list[float](), 0.0
    for part in parse(text, lexicon):
        marked += part.pause_seconds
        parts = split_sentences(part.text, SENTENCE_CHARACTERS)
        for sentence in [s for s in parts if any(c.isalnum() for c in s)] or parts:
            pauses.append(marked or (SENTENCE_PAUSE_SECONDS if sentences else 0.0))
            sentences.append(sentence)
            marked = 0.0
    return Script(sentences, [*pauses, marked])


def silence(seconds: float, sample_rate: int) -> NDArray[np.float32]:
    """Return a pause (N,)."""
    return np.zeros(round(seconds * sample_rate), dtype=np.float32)


def join_waves(
    waves: Sequence[NDArray[np.float32]], sample_rate: int, pauses: Sequence[float]
) -> NDArray[np.float32]:
    """Return the waves (N,) one after another; pauses: seconds before each and after the last."""
    silences = [silence(seconds, sample_rate) for seconds in pauses]
    pairs = zip(silences, [*waves, silence(0, sample_rate)], strict=True)
    return np.concatenate([part for pair in pairs for part in pair])
