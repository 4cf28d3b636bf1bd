"""Vocabularies: text to tokens and back, and through a checkpoint."""

import base64
import io
import random

import pytest
from sentencepiece import SentencePieceTrainer

from tacoskip.text.letters import LETTERS, plain_words
from tacoskip.text.subwords import Characters, Subwords, vocabulary_from

TEXTS = ["the cat sat on the mat", "that hat is the cat's", "The Mat; then, the Hat!", "..."] * 3


def test_decode_undoes_encode() -> None:
    subwords, draw = Subwords.train(TEXTS, 40), random.Random(0)
    for _ in range(300):
        text = "".join(draw.choices(" '-Aabcdeghtzq", k=draw.randint(0, 20)))
        ids = subwords.encode(text, normalized=True)
        assert subwords.decode(ids) == plain_words(text, normalized=True)
        assert 0 not in ids, "the blank is no part of a text"


def test_subwords_are_longer_than_letters() -> None:
    subwords = Subwords.train(TEXTS, 40)
    assert len(subwords) == len(subwords.symbols) == 40
    assert set(subwords.symbols) > set(LETTERS) and " th" in subwords.symbols
    assert len(subwords.encode("the hat")) < len(Characters().encode("the hat"))
    assert "".join(subwords.symbols[token] for token in subwords.spell("the")) == " the"
    characters = Characters()
    assert "".join(characters.symbols[token] for token in characters.spell("the")) == "the "


def test_model_is_restored_from_its_text() -> None:
    subwords = Subwords.train(TEXTS, 40)
    assert Subwords.train(TEXTS, 40).model == subwords.model, (
        "the same texts give the same subwords"
    )
    again = vocabulary_from(subwords.model)
    assert again.symbols == subwords.symbols and again.encode("hats") == subwords.encode("hats")
    assert isinstance(vocabulary_from(""), Characters)


@pytest.mark.parametrize("model", ["rubbish", "cnViYmlzaA==", ""])
def test_invalid_model_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match="expected a subword model"):
        Subwords(model)


@pytest.mark.hostile
def test_model_with_control_characters_is_refused() -> None:
    """A transcript of them would reach the terminal."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        model_type="char",
        vocab_size=30,
        hard_vocab_limit=False,
        user_defined_symbols=["\x1b]0;"],
        minloglevel=2,
    )
    with pytest.raises(ValueError, match="expected a subword model of letters, got control"):
        Subwords(base64.b64encode(model.getvalue()).decode())


@pytest.mark.parametrize(("size", "reason"), [(10, "at least 29"), (5000, r"at most \d+")])
def test_impossible_size_is_refused(size: int, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"expected asr.bpe_size of {reason} for these texts"):
        Subwords.train(TEXTS, size)
