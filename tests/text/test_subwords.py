"""Pieces of words: any text and back, the same each time, through a checkpoint's text."""

import random

import pytest

from tacoskip.text.letters import LETTERS, plain_words
from tacoskip.text.subwords import Characters, Subwords, vocabulary_from

TEXTS = ["the cat sat on the mat", "that hat is the cat's", "The Mat; then, the Hat!", "..."] * 3


def test_any_text_comes_back() -> None:
    pieces, draw = Subwords.train(TEXTS, 40), random.Random(0)
    for _ in range(300):
        text = "".join(draw.choices(" '-Aabcdeghtzq", k=draw.randint(0, 20)))
        ids = pieces.encode(text, normalized=True)
        assert pieces.decode(ids) == plain_words(text, normalized=True)
        assert 0 not in ids, "the blank is no part of a text"


def test_pieces_are_longer_than_letters_and_know_where_words_begin() -> None:
    pieces = Subwords.train(TEXTS, 40)
    assert len(pieces) == len(pieces.symbols) == 40
    assert set(pieces.symbols) > set(LETTERS) and " th" in pieces.symbols
    assert len(pieces.encode("the hat")) < len(Characters().encode("the hat"))
    assert "".join(pieces.symbols[unit] for unit in pieces.spell("the")) == " the"
    letters = Characters()
    assert "".join(letters.symbols[unit] for unit in letters.spell("the")) == "the "


def test_a_model_travels_as_text() -> None:
    pieces = Subwords.train(TEXTS, 40)
    assert Subwords.train(TEXTS, 40).model == pieces.model, "the same texts give the same pieces"
    again = vocabulary_from(pieces.model)
    assert again.symbols == pieces.symbols and again.encode("hats") == pieces.encode("hats")
    assert isinstance(vocabulary_from(""), Characters)


@pytest.mark.parametrize("model", ["rubbish", "cnViYmlzaA==", ""])
def test_what_is_no_model_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match="expected a subword model"):
        Subwords(model)


@pytest.mark.parametrize(("size", "reason"), [(10, "at least 29"), (5000, r"at most \d+")])
def test_a_size_that_cannot_be_is_refused(size: int, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"expected asr.bpe_size of {reason} for these texts"):
        Subwords.train(TEXTS, size)
