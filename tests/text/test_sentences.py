"""Where a long text is split."""

import pytest

from tacoskip.text import split_sentences

CASES = [
    ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
    ("Dr. Smith met Mr. J. R. Jones Jr. in St. Paul. He left.",
     ["Dr. Smith met Mr. J. R. Jones Jr. in St. Paul.", "He left."]),
    ("It is 3.14 or $5.00. Yes.", ["It is 3.14 or $5.00.", "Yes."]),
    ("The U.S. Army came at 5 p.m. The end.", ["The U.S. Army came at 5 p.m.", "The end."]),
    ("At 5 p.m. Eastern time, etc. and so on.", ["At 5 p.m. Eastern time, etc. and so on."]),
    ('"Really?" he asked. "Yes." She ran.', ['"Really?" he asked.', '"Yes."', "She ran."]),
    ("Wait... what? No. 5 is alive.", ["Wait... what?", "No. 5 is alive."]),
    ("1. The first. 2. The second.", ["1. The first.", "2. The second."]),
    ("A title\n\nThe text\ngoes on.", ["A title", "The text goes on."]),
    ("你好。世界！", ["你好。", "世界！"]),
    ("Hello. ... World.", ["Hello. ...", "World."]),
    ("", []),
    (" \n\n ", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_sentences(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


def test_a_long_sentence_is_cut_at_semicolons_then_commas_then_spaces() -> None:
    assert split_sentences("one two three; four five, six seven eight", 25) == [
        "one two three;",
        "four five,",
        "six seven eight",
    ]
    assert split_sentences("one two, three four five six", 20) == [
        "one two,",
        "three four five six",
    ]
    assert split_sentences("one two three four", 10) == ["one two", "three four"]
    assert split_sentences("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


def test_a_number_is_never_cut_at_its_comma() -> None:
    assert split_sentences("about 1,000,000 of them", 12) == ["about", "1,000,000", "of them"]
    assert split_sentences("a. b. c. d. x", 6) == ["a. b.", "c.", "d. x"]


def test_five_thousand_characters() -> None:
    pieces = split_sentences("word " * 1000, 200)
    assert all(150 <= len(piece) <= 200 for piece in pieces)


def test_no_room() -> None:
    with pytest.raises(ValueError, match="expected max_characters of at least 1, got 0"):
        split_sentences("a", 0)
