"""A recognizer's units: what is left of a text, and back."""

import pytest

from tacoskip.text.letters import LETTERS, plain_words
from tacoskip.text.subwords import Characters


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop -- 'now'!", "don't stop now"),
        ("Well-known; café, 12 dogs' tails.", "well known cafe twelve dogs tails"),
        ("  Two\nlines ", "two lines"),
        ("_~", ""),
    ],
)
def test_words_without_case_and_punctuation(text: str, words: str) -> None:
    assert plain_words(text) == words


def test_decoding_undoes_encoding() -> None:
    letters = Characters()
    ids = letters.encode("It's 3 o'clock.")
    assert letters.decode(ids) == "it's three o'clock"
    assert letters.decode([0, *ids, 0]) == "it's three o'clock"
    assert 0 not in ids and max(ids) < len(letters) == len(LETTERS)


def test_a_text_in_words_is_not_normalised_again() -> None:
    letters = Characters()
    assert letters.decode(letters.encode("st. mary", normalized=True)) == "st mary"
