"""Splits depend on ids alone, stay as they were, and leave each speaker something to learn from."""

import random
from collections import Counter
from pathlib import Path

import pytest

from tacoskip.data.split import assign_splits, default_count, rank
from tacoskip.data.utterance import Utterance


def clip(id: str, speaker: str, split: str | None = None, sentence: str = "") -> Utterance:
    return Utterance(id, Path(), "", speaker, split=split, sentence=sentence)


def clips(n: int, speakers: int = 1) -> list[Utterance]:
    return [clip(f"clip-{i}", f"s{i % speakers}") for i in range(n)]


def test_order_does_not_matter():
    ordered = clips(500, 7)
    shuffled = ordered.copy()
    random.Random(3).shuffle(shuffled)
    assert assign_splits(ordered, {}) == assign_splits(shuffled, {})


def test_ranks_are_even():
    share = sum(rank(f"clip-{i}")[0][0] < 128 for i in range(4000)) / 4000
    assert share == pytest.approx(0.5, abs=0.03)
    assert rank("a") != rank("a", "salt")


@pytest.mark.parametrize(
    ("n", "count"), [(0, 0), (2, 0), (3, 1), (30, 3), (100, 8), (1000, 20), (13100, 200)]
)
def test_default_counts(n, count):
    assert default_count(n) == count
    assert Counter(assign_splits(clips(n), {}).values())["test"] == count


def test_later_clips_keep_earlier_splits():
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
    trained = {clip.speaker for clip in many if split_of[clip.id] == "train"}
    assert len(trained) == 30
    assert Counter(split_of.values())["train"] == 30  # 40 were asked for, 30 could be given


def test_official_splits_are_kept():
    official = [clip(f"t{i}", "a", "test") for i in range(30)]
    split_of = assign_splits(clips(400) + official, {})
    assert {id for id, split in split_of.items() if split == "test"} == {
        clip.id for clip in official
    }
    assert Counter(split_of.values())["validation"] == 8
    fewer = assign_splits(clips(400) + official, {}, test=10)
    assert Counter(fewer.values())["test"] == 10
    left = [clip.id for clip in official if clip.id not in fewer]
    assert len(left) == 20  # never into training
    assert fewer.items() <= split_of.items()


def test_a_new_speaker_is_trained_on():
    first = assign_splits(clips(100), {})
    split_of = assign_splits([*clips(100), clip("x1", "new")], first, validation=50, test=50)
    assert split_of["x1"] == "train"


def test_sentence_has_one_split_for_all_speakers():
    def read(*speakers: str) -> list[Utterance]:
        return [clip(f"{s}_{n}", s, sentence=str(n)) for n in range(300) for s in speakers]

    def by_sentence(split_of: dict[str, str]) -> dict[str, set[str]]:
        splits: dict[str, set[str]] = {}
        for id, split in split_of.items():
            splits.setdefault(id.partition("_")[2], set()).add(split)
        return splits

    first = assign_splits(read("slt", "bdl"), {}, validation=20, test=20)
    assert all(len(splits) == 1 for splits in by_sentence(first).values())
    assert Counter(first.values()) == {"train": 560, "validation": 20, "test": 20}
    second = assign_splits(read("slt", "bdl", "kathleen"), first, validation=20, test=20)
    assert first.items() <= second.items()
    assert by_sentence(second) == by_sentence(first)
