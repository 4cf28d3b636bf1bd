"""Endless training batches by duration, resumable to the batch, and the fixed validation ones.

Each clip comes once an epoch, and the padded duration of a batch is bounded. lhotse's
DynamicBucketingSampler (1.33) gives neither: it may end an epoch early, and a batch may exceed its
duration.
"""

import hashlib
import random
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacoskip.audio import FrontEnd
from tacoskip.data.clip import Clip, joined_clips
from tacoskip.data.loading import Batch, Encoder, Loader, Utterance, spread
from tacoskip.data.settings import AugmentSettings, DataSettings
from tacoskip.settings import check

JITTER = 0.05  # clips within about 10 % of duration change places from epoch to epoch

Position = tuple[int, int]  # epoch, batches of it that were consumed


class TrainBatches:
    """An endless iterator of `Batch`: epoch after epoch, clips of similar duration together.

    Threads build a few batches ahead; `state_dict` tells of the batches handed out, never of those
    built ahead, so that after `load_state_dict` the very next batch follows. With several
    processes each gets its own rows of the same batches (`rank` of `world_size`), or all rows of a
    batch that has fewer rows than there are processes. `linear` asks for the linear spectrogram
    too, `augment` for clips that change from epoch to epoch.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        data: DataSettings,
        front_end: FrontEnd,
        encoder: Encoder,
        speakers: Sequence[str],
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        linear: bool = True,
        augment: AugmentSettings | None = None,
    ) -> None:
        if not len(clips):
            raise ValueError("expected at least one training clip, got none")
        check(data, "data.")
        self.clips, self.data, self.seed = clips, data, seed
        self.rank, self.world_size = _process(rank, world_size)
        self.loader = Loader(front_end, encoder, speakers, linear, augment)
        self.pin_memory = False  # of batches that are copied to a GPU
        self._position: Position = (0, 0)
        self._ahead: deque[tuple[Position, Future[Batch]]] = deque()
        self._plan = self._batches_from(self._position)
        self._pool: ThreadPoolExecutor | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the last batch handed out, from 0."""
        return self._position[0]

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self.data.workers == 0:
            position, whole = next(self._plan)
            batch = self._build(self._local_rows(whole), self._key(position))
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.data.workers, "batches")
            while len(self._ahead) < 2 * self.data.workers + 1:
                position, whole = next(self._plan)
                rows, key = self._local_rows(whole), self._key(position)
                self._ahead.append((position, self._pool.submit(self._build, rows, key)))
            position, future = self._ahead.popleft()
            batch = future.result()
        self._position = position
        return batch

    def longest(self) -> Batch:
        """Return this process' rows of the epoch's largest batch: most seconds, padding included.

        The next batch stays the same.
        """
        epoch = self._position[0]
        utterances, seconds, groups = self._epoch(epoch)
        largest = max(groups, key=lambda group: len(group) * seconds[group].max())
        rows = self._local_rows([utterances[index] for index in largest])
        return self._build(rows, self._key((epoch, 0)))

    def close(self) -> None:
        """Stop building ahead. The iterator may be used again."""
        for _, future in self._ahead:
            future.cancel()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._ahead.clear()
        self._plan = self._batches_from(self._position)

    def state_dict(self) -> dict[str, Any]:
        """Return where the batches handed out so far end, as plain numbers and text."""
        epoch, done = self._position
        return {"epoch": epoch, "batches": done, "seed": self.seed, "order": self._order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the batches of `state`.

        Warns, and begins the epoch anew, when the clips or the settings that make the order are
        not those of `state`.
        """
        epoch, done = int(state["epoch"]), int(state["batches"])
        if state["order"] != self._order or state["seed"] != self.seed:
            warnings.warn(
                f"other clips, seed or batch settings than before: epoch {epoch} begins anew",
                stacklevel=2,
            )
            done = 0
        self._position = (epoch, done)
        self.close()

    def _build(self, rows: Sequence[Utterance], key: str) -> Batch:
        batch = self.loader.batch(rows, key)
        return batch.pin_memory() if self.pin_memory else batch

    def _key(self, position: Position) -> str:
        return f"augment {self.seed} {position[0]}"

    @cached_property
    def _order(self) -> str:
        """A digest of everything that determines the order."""
        d = self.data
        shape = [d.join, d.batch_seconds, d.max_batch, d.max_seconds]
        clips = "".join(f"{clip.id} {clip.duration}\n" for clip in self.clips)
        return hashlib.sha256(f"{shape!r}{clips}".encode()).hexdigest()[:16]

    def _batches_from(self, position: Position) -> Iterator[tuple[Position, list[Utterance]]]:
        epoch, skip = position
        while True:
            utterances, _, groups = self._epoch(epoch)
            for done, group in enumerate(groups, 1):
                if done > skip:
                    yield (epoch, done), [utterances[index] for index in group]
            epoch, skip = epoch + 1, 0

    def _epoch(
        self, epoch: int
    ) -> tuple[list[Utterance], NDArray[np.float64], list[NDArray[np.int64]]]:
        """Return an epoch's utterances, their durations, and the batches, whole, by position.

        They depend on clips, settings, seed and epoch alone: all processes compute the same ones.
        """
        d = self.data
        low, high = d.join
        utterances = joined_clips(self.clips, low, high, d.max_seconds, self.seed, epoch)
        seconds = np.array([utterance.duration for utterance in utterances])
        key = f"batches {self.seed} {epoch}"
        groups = duration_groups(seconds.tolist(), d.batch_seconds, d.max_batch, key)
        return utterances, seconds, groups

    def _local_rows(self, whole: list[Utterance]) -> list[Utterance]:
        """Return this process' rows of a batch; where there are too few for all, every row."""
        return whole[self.rank :: self.world_size] if len(whole) >= self.world_size else whole


def _process(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return which process of how many this is; torch.distributed knows where not given."""
    if rank is not None and world_size is not None:
        return rank, world_size
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def validation_batches(
    clips: Sequence[Clip],
    data: DataSettings,
    front_end: FrontEnd,
    encoder: Encoder,
    speakers: Sequence[str],
    limit: int = 0,
    joined: bool = False,
    linear: bool = True,
) -> list[Batch]:
    """Return the clips as batches in a fixed order, shortest first.

    limit: at most so many clips (0: all), evenly spread over the durations. joined: strings of
    clips as in training (`data.join`), the same each time.
    """
    low, high = data.join if joined else (1, 1)
    chosen = joined_clips(clips, low, high, data.max_seconds, 0, 0)
    chosen.sort(key=lambda utterance: (utterance.duration, utterance.id))
    if limit:
        chosen = spread(chosen, limit)
    seconds = [utterance.duration for utterance in chosen]
    groups = duration_groups(seconds, data.batch_seconds, data.max_batch, shuffle=False)
    loader = Loader(front_end, encoder, speakers, linear)
    return [loader.batch([chosen[index] for index in group]) for group in groups]


def duration_groups(
    seconds: Sequence[float],
    batch_seconds: float,
    max_batch: int,
    seed: str = "",
    shuffle: bool = True,
) -> list[NDArray[np.int64]]:
    """Return the positions of clips in batches whose padded duration is at most `batch_seconds`.

    seconds: the clips' durations. A clip longer than `batch_seconds` is a batch of its own. With
    `shuffle` the batches come in random order, and other clips meet in another epoch; `seed` names
    run and epoch. Without, they come from short to long.
    """
    rng = random.Random(seed)
    durations = np.asarray(seconds, np.float64)
    keys = durations
    if shuffle:
        low, high = 1 - JITTER, 1 + JITTER
        keys = durations * np.fromiter((rng.uniform(low, high) for _ in seconds), np.float64)
    order = np.argsort(keys, kind="stable")
    starts, longest = list[int](), 0.0
    for position, duration in enumerate(map(float, durations[order])):
        longest = max(longest, duration)
        count = position - starts[-1] if starts else max_batch
        if count >= max_batch or longest * (count + 1) > batch_seconds:
            starts.append(position)
            longest = duration
    groups = np.split(order, starts[1:]) if starts else []
    if shuffle:
        rng.shuffle(groups)
    return groups
