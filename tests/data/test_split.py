"""Splits depend on ids alone, stay as they were, and leave each speaker something to learn from."""

import random
from collections import Counter

import pytest

from tacoskip.data.split import assign_splits, default_count, rank

Clip = tuple[str, str, str | None]


def clips(n: int, speakers: int = 1) -> list[Clip]:
    return [(f"clip-{i}", f"s{i % speakers}", None) for i in range(n)]


def test_order_does_not_matter():
    ordered = clips(500, 7)
    shuffled = ordered.copy()
    random.Random(3).shuffle(shuffled)
    assert assign_splits(ordered, {}) == assign_splits(shuffled, {})


def test_ranks_are_even():
    share = sum(rank(f"clip-{i}") < 2**63 for i in range(4000)) / 4000
    assert share == pytest.approx(0.5, abs=0.03)
    assert rank("a") != rank("a", "salt")


@pytest.mark.parametrize(
    ("n", "count"), [(0, 0), (2, 0), (3, 1), (30, 3), (100, 8), (1000, 20), (13100, 200)]
)
def test_default_counts(n, count):
    assert default_count(n) == count
    assert Counter(assign_splits(clips(n), {}).values())["test"] == count


def test_later_clips_move_nothing():
    first = assign_splits(clips(300), {})
    second = assign_splits(clips(3000), first)
    assert {id: second[id] for id in first} == first
    assert Counter(second.values()) == {"train": 2880, "test": 60, "validation": 60}
    # and a clip that goes leaves the others where they are
    third = assign_splits(clips(3000)[50:], second)
    assert third == {id: split for id, split in second.items() if int(id[5:]) >= 50}


def test_every_speaker_is_trained_on():
    many = clips(60, 30)
    split_of = assign_splits(many, {}, validation=20, test=20)
    trained = {speaker for id, speaker, _ in many if split_of[id] == "train"}
    assert len(trained) == 30
    assert Counter(split_of.values())["train"] == 30  # 40 were asked for, 30 could be given


def test_official_splits_are_kept():
    official: list[Clip] = [(f"t{i}", "a", "test") for i in range(30)]
    split_of = assign_splits(clips(400) + official, {})
    assert {id for id, split in split_of.items() if split == "test"} == {c[0] for c in official}
    assert Counter(split_of.values())["validation"] == 8
    fewer = assign_splits(clips(400) + official, {}, test=10)
    assert Counter(fewer.values())["test"] == 10
    left = [id for id, _, _ in official if id not in fewer]
    assert len(left) == 20  # never into training
    assert fewer.items() <= split_of.items()


def test_a_new_speaker_is_trained_on():
    first = assign_splits(clips(100), {})
    split_of = assign_splits([*clips(100), ("x1", "new", None)], first, validation=50, test=50)
    assert split_of["x1"] == "train"
