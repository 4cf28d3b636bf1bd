"""Endless training batches by duration, resumable to the batch, and the fixed validation ones.

Each clip comes once an epoch, and the padded duration of a batch is bounded. lhotse's
DynamicBucketingSampler (1.33) gives neither: it may end an epoch early, and a batch may exceed its
duration.
"""

import hashlib
import random
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any

import torch

from tacoskip.audio import FrontEnd
from tacoskip.data.clip import Clip, joined_clips
from tacoskip.data.loading import Batch, Encoder, Loader, Utterance
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
        linear: bool = True,
        augment: AugmentSettings | None = None,
    ) -> None:
        if not len(clips):
            raise ValueError("expected at least one training clip, got none")
        check(data, "data.")
        self.clips, self.data, self.seed = clips, data, seed
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = torch.distributed.get_rank() if several else 0
        self.world_size = torch.distributed.get_world_size() if several else 1
        self.loader = Loader(front_end, encoder, speakers, linear, augment)
        self.pin_memory = False  # of batches that are copied to a GPU
        self._position: Position = (0, 0)
        self._ahead: deque[tuple[Position, Callable[[], Batch]]] = deque()
        self._plan = self._batches_from(self._position)
        self._pool: ThreadPoolExecutor | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the last batch handed out, from 0."""
        return self._position[0]

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        workers = self.data.workers
        if workers and self._pool is None:
            self._pool = ThreadPoolExecutor(workers, "batches")
        while len(self._ahead) < 2 * workers + 1:
            position, whole = next(self._plan)
            build = partial(self._build, position[0], whole)
            self._ahead.append((position, self._pool.submit(build).result if self._pool else build))
        position, result = self._ahead.popleft()
        batch = result()
        self._position = position
        return batch

    def longest(self) -> Batch:
        """Return this process' rows of the epoch's largest batch: most seconds, padding included.

        The next batch stays the same.
        """

        def size(batch: list[Utterance]) -> float:
            return len(batch) * max(utterance.duration for utterance in batch)

        return self._build(self.epoch, max(self._epoch(self.epoch), key=size))

    def close(self) -> None:
        """Stop building ahead. The iterator may be used again."""
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

    def _build(self, epoch: int, whole: list[Utterance]) -> Batch:
        """Build this process' rows of a batch; where there are too few for all, every row."""
        rows = whole[self.rank :: self.world_size] if len(whole) >= self.world_size else whole
        batch = self.loader.batch(rows, f"augment {self.seed} {epoch}")
        return batch.pin_memory() if self.pin_memory else batch

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
            for done, batch in enumerate(self._epoch(epoch), 1):
                if done > skip:
                    yield (epoch, done), batch
            epoch, skip = epoch + 1, 0

    def _epoch(self, epoch: int) -> list[list[Utterance]]:
        """Return an epoch's batches, whole.

        They depend on clips, settings, seed and epoch alone: all processes compute the same ones.
        """
        low, high = self.data.join
        utterances = joined_clips(self.clips, low, high, self.data.max_seconds, self.seed, epoch)
        return duration_batches(utterances, self.data, f"batches {self.seed} {epoch}")


def validation_batches(
    clips: Sequence[Clip],
    data: DataSettings,
    front_end: FrontEnd,
    encoder: Encoder,
    speakers: Sequence[str],
    joined: bool = False,
    linear: bool = True,
) -> list[Batch]:
    """Return the clips as batches in a fixed order, shortest first.

    joined: strings of clips as in training (`data.join`), the same each time.
    """
    low, high = data.join if joined else (1, 1)
    chosen = joined_clips(clips, low, high, data.max_seconds, 0, 0)
    chosen.sort(key=lambda utterance: (utterance.duration, utterance.id))
    loader = Loader(front_end, encoder, speakers, linear)
    return [loader.batch(rows) for rows in duration_batches(chosen, data)]


def duration_batches(
    utterances: Sequence[Utterance], data: DataSettings, seed: str = ""
) -> list[list[Utterance]]:
    """Return utterances in batches whose padded duration is at most `data.batch_seconds`.

    An utterance that is longer is a batch of its own. With a `seed`, which names run and epoch, the
    batches come in random order, and other utterances meet in another epoch. Without, they come
    from short to long.
    """
    rng = random.Random(seed)
    keys = seconds = [utterance.duration for utterance in utterances]
    if seed:
        keys = [duration * rng.uniform(1 - JITTER, 1 + JITTER) for duration in seconds]
    batches, longest = list[list[Utterance]](), 0.0
    for index in sorted(range(len(keys)), key=keys.__getitem__):
        longest = max(longest, seconds[index])
        count = len(batches[-1]) if batches else data.max_batch
        if count >= data.max_batch or longest * (count + 1) > data.batch_seconds:
            batches.append([])
            longest = seconds[index]
        batches[-1].append(utterances[index])
    if seed:
        rng.shuffle(batches)
    return batches
