"""Numbers in words, as American English says them: no "and", "oh" for a zero inside a year."""

import re
from functools import lru_cache

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@lru_cache(maxsize=4096)
def cardinal(value: int) -> str:
    """`value` (below 10**18) in words: 114300 is one hundred fourteen thousand, three hundred.

    A comma follows the thousands from three thousand on, and 1,100 to 1,900 are counted in
    hundreds; both are how LJSpeech's readers' transcripts write them.
    """
    if 1100 <= value <= 1900 and value % 100 == 0:
        return f"{cardinal(value // 100)} hundred"
    words = _words(value, "cardinal")
    return words.replace(",", "") if value < 3000 else words


@lru_cache(maxsize=4096)
def ordinal(value: int) -> str:
    """`value` as a rank: 21 is twenty-first."""
    return _words(value, "ordinal").replace(",", "")


def _words(value: int, kind: str) -> str:
    from num2words import num2words

    return re.sub(r"\band ", "", num2words(value, to=kind))


def digit_names(digits: str, zero: str = "zero") -> str:
    """Each digit by itself: 2915 is two nine one five. Other characters are passed over."""
    return " ".join(zero if d == "0" else _DIGITS[int(d)] for d in digits if d in "0123456789")


def pairs(digits: str) -> str:
    """Three or four digits read two by two: 605 is six oh five, 1898 eighteen ninety-eight."""
    if digits[0] == "0":
        return digit_names(digits)
    return _words(int(digits), "year").replace("oh-", "oh ")


def number(text: str) -> str:
    """A written number: 1,300 or 4.8 or .5 or 007."""
    whole, point, rest = text.replace(",", "").partition(".")
    if len(whole) > 1 and whole[0] == "0":
        words = digit_names(whole)
    else:
        words = cardinal(int(whole)) if whole else ""
    return f"{words} point {digit_names(rest)}".strip() if point else words


def plural(words: str) -> str:
    """The plural of number words: sixty is sixties, six is sixes, ninety-nine is ninety-nines."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")
