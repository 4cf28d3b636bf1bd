"""An epoch as a list of batches of similar duration.

lhotse 1.33's DynamicBucketingSampler was tried first. With `sync_buckets=False` it may choose an
empty bucket, which ends the epoch (of FSDD up to 2.5 % of the clips never came), and it lets a
batch exceed its duration. Here each clip comes once an epoch, and memory is bounded.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Clip = TypeVar("Clip")

JITTER = 0.05  # clips within about 10 % of duration change places from epoch to epoch


def duration_groups(
    seconds: Sequence[float] | NDArray[np.float64],
    batch_seconds: float,
    max_batch: int,
    seed: str,
    shuffle: bool = True,
) -> list[NDArray[np.int64]]:
    """Return clips, by their position, in batches whose padded duration stays within
    `batch_seconds`.

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
    for place, duration in enumerate(map(float, durations[order])):
        longest = max(longest, duration)
        count = place - starts[-1] if starts else max_batch
        if count >= max_batch or longest * (count + 1) > batch_seconds:
            starts.append(place)
            longest = duration
    groups = np.split(order, starts[1:]) if starts else []
    if shuffle:
        rng.shuffle(groups)
    return groups


def duration_batches(
    clips: Sequence[Clip],
    seconds: Sequence[float],
    batch_seconds: float,
    max_batch: int,
    seed: str,
    shuffle: bool = True,
) -> list[list[Clip]]:
    """Return all clips in batches, see `duration_groups`."""
    groups = duration_groups(seconds, batch_seconds, max_batch, seed, shuffle)
    return [[clips[index] for index in group] for group in groups]
