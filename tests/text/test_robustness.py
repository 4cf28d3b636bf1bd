"""Any string at all: no exception, no digit left, nothing that takes long."""

import random
import time

import pytest

from tacoskip.text import normalize, split_sentences

FRAGMENTS = (
    *"$£€%&@#+-=^~_|\\<>*/°×–—“”’²½☃é你ß٣Ⅷ①𝟘१𝐀🇺🇸İſﬁKΩµπ",
    *("1", "12", "007", "1963", "3.5", "1,000", "12:30", "60s", "1/2", "24/7", "C2766", "°C", "km"),
    *("Mr.", "Dr.", "St.", "No.", "U.S.", "FBI", "p.m.", "am", "th", "st", "s", "e.g.", "Jan."),
    *("I", "II", "VIII", "Henry", "Chapter", "Malcolm", "WWII", "PhD", "BC", "B.C.", "century"),
    *("in", "Box", "a.com", "http://x.y", "kg", "m", "k", "million", "A", "word", "The", "w/o"),
    *("\u0301", "\u200b", "\ufeff", "\x00", "\ud800", "\u2028", "\U000e0041", "'", '"', "."),
)


def random_text(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.6:
        return "".join(
            rng.choice(FRAGMENTS) + rng.choice(("", "", " ", "\n"))
            for _ in range(rng.randint(1, 12))
        )
    if kind < 0.8:
        ranges = (127, 0x2FFF, 0x10FFFF)
        return "".join(chr(rng.randint(0, rng.choice(ranges))) for _ in range(rng.randint(1, 30)))
    return "".join(rng.choice("0123456789.,:-/$ ABCIVXst%") for _ in range(rng.randint(1, 25)))


@pytest.mark.parametrize("style", ["spoken", "ljspeech"])
def test_any_string_is_normalised(style: str) -> None:
    rng = random.Random(7)
    for _ in range(3000):
        text = random_text(rng)
        words = normalize(text, style=style)
        assert not any(c in "0123456789" for c in words), text
        assert words == " ".join(words.split())


def test_sentences_keep_every_character_of_any_string() -> None:
    rng = random.Random(8)
    for _ in range(3000):
        text, limit = random_text(rng), rng.choice((1, 2, 7, 40, 200))
        pieces = split_sentences(text, limit)
        assert "".join("".join(pieces).split()) == "".join(text.split())
        assert all(0 < len(piece) <= limit for piece in pieces)


@pytest.mark.parametrize(
    "unit",
    ["a", "1", "A.", ".", "1,", "1.", "1-", "1/", "$1", "a@", "a.a", "A ", "AA ", "1:", "IV ", "- ",
     '"', "Mr. ", "http://", "1,111", "é", "☃", "。", "\n ", "12:30 ", "Elm ", "i.e. ", "100 Elm "],
)  # fmt: skip
def test_long_text_takes_no_more_than_linear_time(unit: str) -> None:
    text = (unit * 15_000)[:15_000]
    start = time.process_time()
    normalize(text)
    split_sentences(text)
    # An eighth of this at most; one quadratic pattern takes twice as long and more.
    assert time.process_time() - start < 2
