"""Any string at all, through everything that reads text."""

import warnings

import pytest
from hypothesis import strategies as st

from tacoskip.text import Tokenizer, normalize, split_sentences
from tacoskip.text.folding import clean, fold
from tacoskip.text.letters import LETTERS, plain_words
from tacoskip.text.settings import TextSettings
from tacoskip.text.subwords import Characters
from tacoskip.text.symbols import CHARACTERS, END, PADDING

from .conftest import Fuzz

# What the rules look for, so that they meet one another.
FRAGMENTS = st.sampled_from(
    "$ £ € % & @ # + - = / . , : ; ' \" ( [ { … — ½ ² ° µ Ω № ℃ é ß ﬁ ٣ Ⅷ \U0001d7d8 ☃ 你 1 12 007 "
    "1963 3.5 1,000 12:30 60s 1/2 24/7 Mr. Dr. St. No. U.S. FBI p.m. th s e.g. Jan. II VIII "
    "Henry BC a.com http://x.y kg m million the \u0301 \u200b \ufeff \0 \ud800 \u2028".split(" ")
)
TEXTS = st.one_of(
    st.text(st.characters(codec=None), max_size=60),
    st.lists(st.one_of(FRAGMENTS, st.just(" "), st.text(max_size=3)), max_size=15).map("".join),
    st.text("0123456789.,:-/$ ABCIVXst%", max_size=25),
)
SPEAKABLE = {*CHARACTERS} - {PADDING, END}


def is_refusal(error: ValueError) -> bool:
    return "nothing to speak" in str(error) and "\n" not in str(error)


def test_normalising(fuzz: Fuzz) -> None:
    def check(text: str) -> None:
        for style in ("spoken", "ljspeech"):
            words = normalize(text, style=style)
            assert words == " ".join(words.split())
            assert not any(c in "0123456789" for c in words)

    fuzz("text: normaliser", check, TEXTS)


def test_what_is_folded_stays_so(fuzz: Fuzz) -> None:
    def check(text: str) -> None:
        assert clean(clean(text)) == clean(text)
        assert fold(fold(text)) == fold(text)
        words = plain_words(text)
        assert set(words) <= {*LETTERS[1:]}
        assert plain_words(words, normalized=True) == words
        letters = Characters()
        assert letters.decode(letters.encode(text)) == words

    fuzz("text: folding, letters", check, TEXTS)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tokenizing(fuzz: Fuzz) -> None:
    tokenizer = Tokenizer(TextSettings())

    def check(text: str) -> None:
        dropped: dict[str, int] | None = None
        try:
            ids = tokenizer.encode(text)
            _, dropped = tokenizer.read(text)
        except ValueError as error:
            if not is_refusal(error):
                raise
            return
        read = tokenizer.decode(ids)
        assert all(0 < i < len(tokenizer) for i in ids) and ids[-1] == 1 and 1 not in ids[:-1]
        assert set(read.removesuffix(END)) <= SPEAKABLE and not set(dropped) & SPEAKABLE
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # its own output has nothing left to drop
            assert tokenizer.encode(read.removesuffix(END), normalized=True) == ids

    fuzz("text: tokenizer", check, TEXTS)


def test_sentences(fuzz: Fuzz) -> None:
    def check(value: tuple[str, int]) -> None:
        text, limit = value
        pieces = split_sentences(text, limit)
        assert "".join("".join(pieces).split()) == "".join(text.split())
        assert all(0 < len(piece) <= limit for piece in pieces)

    fuzz("text: sentences", check, st.tuples(TEXTS, st.integers(1, 200)))
