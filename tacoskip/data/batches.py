"""Endless training batches by duration, resumable to the batch, and the fixed validation ones."""

import hashlib
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacoskip.audio import FrontEnd
from tacoskip.data.bucketing import duration_batches, duration_groups
from tacoskip.data.joining import joined_cuts
from tacoskip.data.loading import Batch, Encoder, Loader, feature_statistics, spread
from tacoskip.data.settings import AugmentSettings, DataSettings
from tacoskip.data.shards import ids_of, seconds_of

if TYPE_CHECKING:
    from lhotse.cut import Cut

__all__ = ["Batch", "TrainBatches", "feature_statistics", "validation_batches"]

Position = tuple[int, int]  # epoch, batches of it that were consumed


class TrainBatches:
    """An endless iterator of `Batch`: epoch after epoch, clips of similar duration together.

    Threads build a few batches ahead; `state_dict` tells of the batches handed out, never of those
    built ahead, so that after `load_state_dict` the very next batch follows. With several
    processes each gets its own rows of the same batches (`rank` of `world_size`); `stand_in` says
    that the last one had none for this process, which got one to go through the motions with: it
    must count for nothing. `linear` asks for the linear spectrogram too, `augment` for clips that
    change from epoch to epoch.
    """

    def __init__(
        self,
        cuts: Iterable["Cut"],
        data: DataSettings,
        front_end: FrontEnd,
        tokenizer: Encoder,
        speakers: Sequence[str],
        seed: int = 0,
        shuffle: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
        linear: bool = True,
        augment: AugmentSettings | None = None,
    ) -> None:
        self.cuts: Sequence[Any] = cuts if isinstance(cuts, Sequence) else list(cuts)
        if not len(self.cuts):
            raise ValueError("expected at least one training clip, got none")
        if len(data.join) != 2:
            raise ValueError(f"expected data.join = [low, high], got {data.join}")
        if data.batch_seconds <= 0 or data.max_batch < 1 or data.workers < 0:
            raise ValueError(
                "expected data.batch_seconds > 0, data.max_batch >= 1 and data.workers >= 0, got "
                f"{data.batch_seconds}, {data.max_batch} and {data.workers}"
            )
        self.data, self.seed, self.shuffle = data, seed, shuffle
        self.rank, self.world_size = _process(rank, world_size)
        self.loader = Loader(front_end, tokenizer, speakers, data.cache_mb, linear, augment)
        self.stand_in = False
        self._position: Position = (0, 0)
        self._ahead: deque[tuple[Position, bool, Future[Batch]]] = deque()
        self._plan = self._batches_from(self._position)
        self._pool: ThreadPoolExecutor | None = None
        self._digest = ""

    @property
    def epoch(self) -> int:
        """The epoch of the last batch handed out, from 0."""
        return self._position[0]

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self.data.workers == 0:
            position, whole = next(self._plan)
            cuts, self.stand_in = self._own(whole)
            batch = self.loader.batch(cuts, self._key(position))
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.data.workers, "batches")
            while len(self._ahead) < 2 * self.data.workers + 1:
                position, whole = next(self._plan)
                cuts, stand_in = self._own(whole)
                self.loader.features.ahead(cuts)
                future = self._pool.submit(self.loader.batch, cuts, self._key(position))
                self._ahead.append((position, stand_in, future))
            position, self.stand_in, future = self._ahead.popleft()
            batch = future.result()
        self._position = position
        return batch

    def longest(self) -> Batch:
        """Return this process' rows of the epoch's largest batch: most seconds, padding included.

        Nothing moves on: the next batch is the one it would have been. Sets `stand_in`.
        """
        epoch = self._position[0]
        cuts, seconds, groups = self._epoch(epoch)
        largest = max(groups, key=lambda group: len(group) * seconds[group].max())
        rows, self.stand_in = self._own([cuts[index] for index in largest])
        return self.loader.batch(rows, self._key((epoch, 0)))

    def close(self) -> None:
        """Stop building ahead. The iterator may be used again."""
        for _, _, future in self._ahead:
            future.cancel()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._ahead.clear()
        self.loader.features.close()
        self._plan = self._batches_from(self._position)

    def state_dict(self) -> dict[str, Any]:
        """Return where the batches handed out so far end, as plain numbers and text."""
        epoch, done = self._position
        return {"epoch": epoch, "batches": done, "seed": self.seed, "order": self._order()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batches of `state`.

        Warns, and begins the epoch anew, when the clips or the settings that make the order are
        not those of `state`.
        """
        epoch, done = int(state["epoch"]), int(state["batches"])
        if state["order"] != self._order() or state["seed"] != self.seed:
            warnings.warn(
                f"other clips, seed or batch settings than before: epoch {epoch} begins anew",
                stacklevel=2,
            )
            done = 0
        self._position = (epoch, done)
        self.close()

    def _key(self, position: Position) -> str:
        return f"augment {self.seed} {position[0]}"

    def _order(self) -> str:
        """Return a digest of what makes the order: wherever the clips lie, it is the same."""
        if not self._digest:
            d = self.data
            shape = [d.join, d.batch_seconds, d.max_batch, d.max_seconds, self.shuffle]
            digest = hashlib.sha256(repr(shape).encode())
            for id, seconds in zip(ids_of(self.cuts), seconds_of(self.cuts), strict=True):
                digest.update(f"{id} {float(seconds)}\n".encode())
            self._digest = digest.hexdigest()[:16]
        return self._digest

    def _batches_from(self, position: Position) -> Iterator[tuple[Position, list["Cut"]]]:
        epoch, skip = position
        while True:
            cuts, _, groups = self._epoch(epoch)
            for done, group in enumerate(groups, 1):
                if done > skip:
                    yield (epoch, done), [cuts[index] for index in group]
            epoch, skip = epoch + 1, 0

    def _epoch(
        self, epoch: int
    ) -> tuple[Sequence["Cut"], NDArray[np.float64], list[NDArray[np.int64]]]:
        """Return an epoch's utterances, their durations, and the batches, whole, by position: a
        function of clips, settings, seed and epoch alone, so that any number of processes share
        the same ones.
        """
        d, cuts = self.data, self.cuts
        low, high = d.join
        if high > 1:
            cuts = joined_cuts(cuts, low, high, d.max_seconds, self.seed, epoch, self.shuffle)
        seconds = seconds_of(cuts)
        key = f"batches {self.seed} {epoch}"
        groups = duration_groups(seconds, d.batch_seconds, d.max_batch, key, self.shuffle)
        return cuts, seconds, groups

    def _own(self, whole: list["Cut"]) -> tuple[list["Cut"], bool]:
        """This process' rows of a batch, and whether they only stand in for some."""
        rows = whole[self.rank :: self.world_size]
        return rows or whole[:1], not rows


def _process(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return which process of how many this is, asked of torch.distributed where not given."""
    if rank is not None and world_size is not None:
        return rank, world_size
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def validation_batches(
    cuts: Iterable["Cut"],
    data: DataSettings,
    front_end: FrontEnd,
    tokenizer: Encoder,
    speakers: Sequence[str],
    limit: int = 0,
    joined: bool = False,
    linear: bool = True,
) -> list[Batch]:
    """Return the clips as batches in a fixed order, shortest first.

    limit: at most so many clips (0: all), evenly spread over the durations. joined: strings of
    clips as in training (`data.join`), the same each time.
    """
    chosen: list[Any] = list(cuts)
    if joined:
        low, high = data.join
        chosen = joined_cuts(chosen, low, high, data.max_seconds, 0, 0)
    chosen.sort(key=lambda cut: (cut.duration, cut.id))
    if limit:
        chosen = spread(chosen, limit)
    seconds = [cut.duration for cut in chosen]
    groups = duration_batches(chosen, seconds, data.batch_seconds, data.max_batch, "", False)
    loader = Loader(front_end, tokenizer, speakers, linear=linear)
    try:
        return [loader.batch(group) for group in groups]
    finally:
        loader.features.close()
