"""Error rates against a plain edit distance, and their interval."""

import random

import pytest

from tacoskip.evaluation.error_rates import (
    Errors,
    cer,
    character_errors,
    interval,
    wer,
    word_errors,
)


def distance(a: list[str], b: list[str]) -> int:
    """Levenshtein's distance, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def test_errors_match_the_edit_distance() -> None:
    rng = random.Random(0)
    for _ in range(200):
        reference, hypothesis = (
            " ".join(rng.choices(["one", "two", "to", "tea"], k=rng.randint(low, 6)))
            for low in (1, 0)
        )
        words, characters = (
            word_errors(reference, hypothesis),
            character_errors(reference, hypothesis),
        )
        assert words.total == distance(reference.split(), hypothesis.split())
        assert characters.total == distance(list(reference), list(hypothesis))
        assert words.length == len(reference.split()) and characters.length == len(reference)


def test_rates_are_over_all_texts_together() -> None:
    assert wer(["a b c d", "a"], ["a b c d", "b"]) == pytest.approx(1 / 5)
    assert cer(["abcd", "a"], ["abcd", ""]) == pytest.approx(1 / 5)


def test_empty_reference() -> None:
    assert word_errors("", "two words") == Errors(0, 0, 2, 0)
    assert (character_errors("", "ab").rate, word_errors("", "").rate) == (1.0, 0.0)
    assert cer(["", "ab"], ["a", "ab"]) == pytest.approx(0.5)


def test_interval_contains_the_rate_and_widens_with_groups() -> None:
    rows = [Errors(k % 2, 0, 0, 10) for k in range(40)]
    alone = interval([[row] for row in rows])
    assert alone["mean"] == pytest.approx(0.05) and alone["n"] == 40
    assert alone["low"] < 0.05 < alone["high"]
    grouped = interval([rows[0::2], rows[1::2]])  # one speaker without errors, one full of them
    assert grouped["high"] - grouped["low"] > alone["high"] - alone["low"]
    assert interval([[row] for row in rows]) == alone
