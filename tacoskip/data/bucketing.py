"""An epoch as a list of batches of similar duration.

lhotse 1.33's DynamicBucketingSampler was tried first. With `sync_buckets=False` it may choose an
empty bucket, which ends the epoch (of FSDD up to 2.5 % of the clips never came), and it lets a
batch exceed its duration. Here each clip comes once an epoch, and memory is bounded.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

Clip = TypeVar("Clip")

JITTER = 0.05  # clips within about 10 % of duration change places from epoch to epoch


def duration_batches(
    clips: Sequence[Clip],
    seconds: Sequence[float],
    batch_seconds: float,
    max_batch: int,
    seed: str,
    shuffle: bool = True,
) -> list[list[Clip]]:
    """Return all clips in batches whose padded duration stays within `batch_seconds`.

    seconds: the clips' durations. A clip longer than `batch_seconds` is a batch of its own. With
    `shuffle` the batches come in random order, and other clips meet in another epoch; `seed` names
    run and epoch. Without, they come from short to long.
    """
    rng = random.Random(seed)
    keys = [s * rng.uniform(1 - JITTER, 1 + JITTER) if shuffle else s for s in seconds]
    batches: list[list[Clip]] = []
    longest = 0.0
    for index in sorted(range(len(clips)), key=keys.__getitem__):
        longest = max(longest, seconds[index])
        full = bool(batches) and (
            len(batches[-1]) >= max_batch or longest * (len(batches[-1]) + 1) > batch_seconds
        )
        if not batches or full:
            batches.append([])
            longest = seconds[index]
        batches[-1].append(clips[index])
    if shuffle:
        rng.shuffle(batches)
    return batches
