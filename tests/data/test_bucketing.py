"""Batches of similar duration: whole, bounded, repeatable, well filled."""

import random

import pytest

from tacoskip.data.batches import duration_batches
from tacoskip.data.clip import Clip
from tacoskip.data.settings import DataSettings

RANDOM = random.Random(1)
SECONDS = [RANDOM.lognormvariate(1.5, 0.5) for _ in range(2000)]
CLIPS = [Clip(str(n), "", "", "", "", round(s * 1e6), 10**6) for n, s in enumerate(SECONDS)]
SECONDS = [clip.duration for clip in CLIPS]


def batches(seed: str = "a", limit: float = 60.0, most: int = 32, shuffle: bool = True) -> list:
    data = DataSettings(batch_seconds=limit, max_batch=most)
    return [[int(c.id) for c in batch] for batch in duration_batches(CLIPS, data, shuffle * seed)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("limit", "most"), [(60.0, 32), (9.0, 4), (1.0, 8), (1e6, 7)])
def test_each_clip_comes_once_within_the_bounds(limit, most, shuffle):
    found = batches("x", limit, most, shuffle)
    assert sorted(clip for batch in found for clip in batch) == list(range(len(CLIPS)))
    for batch in found:
        padded = len(batch) * max(SECONDS[clip] for clip in batch)
        assert 1 <= len(batch) <= most
        assert padded <= limit or len(batch) == 1


def test_batches_are_well_filled():
    found = batches()
    padded = sum(len(batch) * max(SECONDS[clip] for clip in batch) for batch in found)
    assert sum(SECONDS) / padded > 0.9
    assert len(found) < 1.25 * sum(SECONDS) / 60 + 2


def test_epochs_differ_and_repeat():
    assert batches("a") == batches("a") != batches("b")
    together = [{frozenset(batch) for batch in batches(seed)} for seed in "ab"]
    assert len(together[0] & together[1]) < 5  # other clips meet each time, not only another order
    assert batches("a", shuffle=False) == batches("b", shuffle=False)


def test_order_without_shuffle_is_by_duration():
    flat = [SECONDS[clip] for batch in batches(shuffle=False) for clip in batch]
    assert flat == sorted(flat)


def test_few_clips():
    assert duration_batches([], DataSettings()) == []
    assert duration_batches(CLIPS[:1], DataSettings(batch_seconds=1e-3)) == [CLIPS[:1]]
