"""Number words against num2words' own readings, which are made another way."""

import pytest
from num2words import num2words

from tacoskip.text.numbers import cardinal, digit_names, number, ordinal, pairs, plural


def test_years_as_num2words_says_them() -> None:
    for year in range(1100, 2100):
        reference = num2words(year, to="year").replace(" and ", " ").replace("oh-", "oh ")
        assert pairs(str(year)) == reference


def test_cardinals_differ_from_british_ones_by_and_and_comma_only() -> None:
    for value in (
        *range(0, 1100),
        *range(2000, 20_000, 37),
        10**6,
        999_999,
        123_456_789_012,
        10**17,
    ):
        if 1100 <= value <= 1900 and value % 100 == 0:
            continue
        reference = num2words(value).replace(" and ", " ").replace(",", "")
        assert cardinal(value).replace(",", "") == reference


def test_hundreds_and_commas() -> None:
    assert cardinal(1300) == "thirteen hundred"
    assert cardinal(2372) == "two thousand three hundred seventy-two"
    assert cardinal(3985) == "three thousand, nine hundred eighty-five"


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ("605", "six oh five"),
        ("484", "four eighty-four"),
        ("700", "seven hundred"),
        ("007", "zero zero seven"),
    ],
)
def test_pairs_of_three(digits: str, words: str) -> None:
    assert pairs(digits) == words


def test_the_rest() -> None:
    assert ordinal(121) == "one hundred twenty-first"
    assert digit_names("205", "oh") == "two oh five"
    assert number("1,234.50") == "one thousand two hundred thirty-four point five zero"
    assert number(".5") == "point five"
    assert [plural(w) for w in ("sixty", "six", "ninety-nine")] == [
        "sixties",
        "sixes",
        "ninety-nines",
    ]
