"""Recordings of any length: overlapping windows for the network, segments for the decoder.

    blocks of samples -> windows -> network -> the posteriors that count -> segments cut at pauses

N samples, L encoder frames, V tokens of the vocabulary.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacoskip.recognition.transcript import Transcript
from tacoskip.timed_words import Word

WINDOW_SECONDS = 20.0
MARGIN_SECONDS = 2.0  # context on each side of a window, whose posteriors are not used
SHORTEST_SECONDS, LONGEST_SECONDS = 8.0, 24.0  # of a segment that is decoded at once


@dataclass(frozen=True)
class Window:
    """A part of a recording: wave (N,); its encoder frames from `keep` to `end` count (None: to the
    last).
    """

    wave: NDArray[np.float32]
    keep: int
    end: int | None


def windows(
    blocks: Iterable[NDArray[np.float32]], sample_rate: int, frame_samples: int
) -> Iterator[Window]:
    """Cut a stream of waves (N,) into overlapping windows whose counted frames make up the whole.

    frame_samples: samples of one encoder frame; every window begins at a multiple of it.
    """
    margin = max(1, round(MARGIN_SECONDS * sample_rate / frame_samples))
    step = max(1, round(WINDOW_SECONDS * sample_rate / frame_samples)) - 2 * margin
    buffer = np.zeros(0, dtype=np.float32)
    lead = 0  # frames of context before the frames that count next
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) > (lead + step + margin) * frame_samples:
            yield Window(buffer[: (lead + step + margin) * frame_samples], lead, lead + step)
            buffer = buffer[(lead + step - margin) * frame_samples :]
            lead = margin
    yield Window(buffer, lead, None)


class Segmenter:
    """Gathers rows (L, V + any), posteriors first, into segments that end between words.

    silent: which of the V tokens have no sound (blank and space).
    """

    def __init__(self, frame_seconds: float, silent: Iterable[int], n_tokens: int) -> None:
        self.n_tokens = n_tokens
        self.shortest = round(SHORTEST_SECONDS / frame_seconds)
        self.longest = round(LONGEST_SECONDS / frame_seconds)
        self.silent = torch.tensor(sorted(silent))
        self.first = 0  # frame at which the gathered rows begin
        self.rows = torch.zeros(0)

    def push(self, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Take the next rows; yield (first frame, rows) of each complete segment."""
        self.rows = torch.cat([self.rows, rows]) if len(self.rows) else rows
        while len(self.rows) > self.longest:
            yield self._take(self._cut(self.rows))

    def flush(self) -> Iterator[tuple[int, Tensor]]:
        if len(self.rows):
            yield self._take(len(self.rows))

    def _take(self, count: int) -> tuple[int, Tensor]:
        segment = self.first, self.rows[:count]
        self.first, self.rows = self.first + count, self.rows[count:]
        return segment

    def _cut(self, rows: Tensor) -> int:
        """Return the middle of the longest run without a letter where a segment may end."""
        best = rows[self.shortest : self.longest, : self.n_tokens].argmax(1)
        middle, longest, run = self.longest - self.shortest, 0, 0
        for frame, is_silent in enumerate(torch.isin(best, self.silent).tolist()):
            run = run + 1 if is_silent else 0
            if run > longest:
                middle, longest = frame + 1 - (run + 1) // 2, run
        return self.shortest + middle


class Recording:
    """A recording in progress: its windows on the way in, its words on the way out."""

    def __init__(
        self,
        source: str,
        blocks: Iterable[NDArray[np.float32]],
        sample_rate: int,
        frame_samples: int,
        segmenter: Segmenter,
    ) -> None:
        self.source, self.sample_rate, self.segmenter = source, sample_rate, segmenter
        self.windows = windows(self._counted(blocks), sample_rate, frame_samples)
        self.words: list[Word] = []
        self.samples = 0
        self.pending = 0  # windows that have not been through the network
        self.is_read, self.error = False, ""

    def _counted(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for block in blocks:
            self.samples += len(block)
            yield block

    def transcript(self) -> Transcript:
        """Return what was recognized so far, or the error."""
        words = [] if self.error else self.words
        text = " ".join(word.text for word in words)
        seconds = self.samples / self.sample_rate
        return Transcript(self.source, text, seconds, words, self.error)
