"""An epoch as a list of batches of similar duration.

Each clip comes once an epoch, and the padded duration of a batch is bounded. lhotse's
DynamicBucketingSampler (1.33) gives neither: it may end an epoch early, and a batch may exceed its
duration.
"""

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

JITTER = 0.05  # clips within about 10 % of duration change places from epoch to epoch


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
