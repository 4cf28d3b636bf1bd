"""Recordings of any length: overlapping windows in, posteriors stitched, cut where nobody speaks.

N samples, L encoder frames, U units.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WINDOW_SECONDS = 20.0
MARGIN_SECONDS = 2.0  # on each side of a window, for context; its posteriors are not used
SHORTEST_SECONDS, LONGEST_SECONDS = 8.0, 24.0  # of a segment that is decoded at once


@dataclass(frozen=True)
class Window:
    """A stretch of a recording: wave (N,), and which encoder frames of it count, `keep` to `end`
    (None: to its last).
    """

    wave: NDArray[np.float32]
    keep: int
    end: int | None


def windows(
    blocks: Iterable[NDArray[np.float32]], sample_rate: int, frame: int
) -> Iterator[Window]:
    """Cut a stream of waves (N,) into overlapping windows whose kept frames make up the whole.

    frame: samples of one encoder frame; every window begins at a multiple of it.
    """
    margin = max(1, round(MARGIN_SECONDS * sample_rate / frame))
    step = max(1, round(WINDOW_SECONDS * sample_rate / frame)) - 2 * margin
    held = np.zeros(0, dtype=np.float32)
    lead = 0  # frames of context before the frames that count next
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > (lead + step + margin) * frame:
            yield Window(held[: (lead + step + margin) * frame], lead, lead + step)
            used = lead + step - margin
            held, lead = held[used * frame :], margin
    if len(held) > lead * frame or not lead:
        yield Window(held, lead, None)


class Segmenter:
    """Gathers rows (L, U + any), posteriors first, and gives them out in pieces that end between
    words.

    silent: which of the U units are no sound (blank and space).
    """

    def __init__(self, frame_seconds: float, silent: Iterable[int], n_units: int) -> None:
        self.n_units = n_units
        self.least = round(SHORTEST_SECONDS / frame_seconds)
        self.most = round(LONGEST_SECONDS / frame_seconds)
        self.silent = torch.tensor(sorted(silent))
        self.first = 0  # frame at which what is held begins
        self.held: list[Tensor] = []

    def push(self, log_probs: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Take the next rows; yield (first frame, rows) of segments that are whole."""
        self.held.append(log_probs)
        while sum(map(len, self.held)) > self.most:
            whole = torch.cat(self.held)
            cut = self._quietest(whole)
            yield self.first, whole[:cut]
            self.first += cut
            self.held = [whole[cut:]]

    def flush(self) -> Iterator[tuple[int, Tensor]]:
        """Yield what is left."""
        whole = torch.cat(self.held) if self.held else torch.zeros(0, 1)
        if len(whole):
            yield self.first, whole
        self.first += len(whole)
        self.held = []

    def _quietest(self, log_probs: Tensor) -> int:
        """The middle of the longest run without a letter, between `least` and `most` frames."""
        heard = log_probs[self.least : self.most, : self.n_units].argmax(1)
        quiet = torch.isin(heard, self.silent).tolist()
        best, length, run = self.most - self.least, 0, 0
        for place, is_quiet in enumerate([*quiet, False]):
            run = run + 1 if is_quiet else 0
            if run > length:
                best, length = place + 1 - (run + 1) // 2, run
        return self.least + best
