"""Long text: the sentences that a network reads, and the pauses between their waves.

N samples.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tacoskip.text import split_sentences

SENTENCE_CHARACTERS = 200
SENTENCE_BATCH = 32
SENTENCE_PAUSE_SECONDS, TEXT_PAUSE_SECONDS = 0.12, 0.4


def spoken_sentences(text: str) -> list[str]:
    """Return the sentences of a text that hold a letter or digit; the text itself without any.

    Marks between sentences have no sound, but espeak may know a name for a sign alone.
    """
    sentences = split_sentences(text, SENTENCE_CHARACTERS)
    return [s for s in sentences if any(c.isalnum() for c in s)] or [text]


def batches_by_length(sentences: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield the positions of sentences of similar length, at most SENTENCE_BATCH together."""
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    for start in range(0, len(order), SENTENCE_BATCH):
        yield order[start : start + SENTENCE_BATCH]


def silence(seconds: float, sample_rate: int) -> NDArray[np.float32]:
    """Return a pause (N,)."""
    return np.zeros(round(seconds * sample_rate), dtype=np.float32)


def join_waves(
    waves: Sequence[NDArray[np.float32]], sample_rate: int, pause_seconds: float
) -> NDArray[np.float32]:
    """Return the waves (N,) one after another, with a pause between two."""
    pause = silence(pause_seconds, sample_rate)
    return np.concatenate([part for wave in waves for part in (pause, wave)][1:])
