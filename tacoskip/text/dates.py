"""Dates, years of two digits, decades and times of day.

A day keeps its cardinal, "November twenty-two", as LJSpeech's transcripts have it. Whether four
digits are a year depends on their neighbours: tacoskip.text.counting decides.
"""

import re

from tacoskip.text.numbers import NUMBER_WORD, TENS_WORD, cardinal, pairs, plural

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_DAY = "(0?[1-9]|[12][0-9]|3[01])"
_SHORT = "(?i:(Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec))"

_ISO = re.compile(
    r"(?<![\w.-])([12][0-9]{3})([-/])(0[1-9]|1[0-2])\2(0[1-9]|[12][0-9]|3[01])"
    r"(?:T(?=[0-9])|(?![\w-]))"
)
_SLASHED = re.compile(r"(?<![\w/.])([0-3]?[0-9])/([0-3]?[0-9])/([0-9]{4}|[0-9]{2})(?![\w/])")
_DOTTED = re.compile(rf"(?<![\w.]){_DAY}([.-])(0?[1-9]|1[0-2])\2([12][0-9]{{3}})(?!\w|\.[0-9])")
_SHORT_MONTH = re.compile(
    rf"(?<!\w){_SHORT}\.?( )(?=[0-9])|(?<=[0-9] ){_SHORT}\b\.?(?=,? [12][0-9])"
)
_SHORT_DAY = re.compile(
    rf"(?<!\w)(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(?:s|rs?)?\.?(?=,? (?:{'|'.join(MONTHS)}|[0-9]))"
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SHORT_YEAR = re.compile(r"(?<![\w'])'([0-9]{2})(?![\w'])")
_DECADES = re.compile(r"(?<=[0-9]s) ?- ?(?='?[0-9]{2,4}'?s\b)")
_DECADE = re.compile(r"(?<![\w.,])('?)([0-9]{4}|[0-9]0)'?s(?!\w)")

_TIME = re.compile(
    r"(?<![\w:.])(?<![0-9],)([01]?[0-9]|2[0-4]):([0-5][0-9])(?::([0-5][0-9]))?(?:Z\b|(?![\w:]))"
    r"(?= ?([ap]\.?m\b)?)",
    re.IGNORECASE,
)
_HALF = re.compile(r"(?<=[0-9]) ?([ap])m\b\.?", re.IGNORECASE)
_POINTED = re.compile(r"(?<![\w.,$£€])([0-9]{1,2})\.([0-5][0-9])(?= ?[ap]\.?m\b)", re.IGNORECASE)
_UNTIL = re.compile(
    r"(?<=[0-9]:[0-9]{2}) ?- ?(?=[0-9]{1,2}:[0-9])|(?<=[0-9] [ap]\.m\.) ?- ?(?=[0-9])"
)
_HOUR_WITH_COLON = re.compile(rf"\b((?:twenty-)?{NUMBER_WORD}):(?=oh |{TENS_WORD}\b)")


def read_dates(text: str) -> str:
    """2026-11-21, 11/21/2026, 21.11.2026, Nov. 21, '64 and 1960s, in words or nearer to them.

    With slashes the month comes first, unless only the other order is a date.
    """
    text = _ISO.sub(lambda m: _date(m[1], m[3], m[4]) + (" " if m[0][-1] == "T" else ""), text)
    text = _SLASHED.sub(_slashed, text)
    text = _DOTTED.sub(lambda m: _date(m[4], m[3], m[1]), text)
    text = _SHORT_MONTH.sub(lambda m: _full(m[1] or m[3], MONTHS) + (m[2] or ""), text)
    text = _SHORT_DAY.sub(lambda m: _full(m[1], _DAYS), text)
    text = _DECADE.sub(_decade, _DECADES.sub(" to ", text))
    return _SHORT_YEAR.sub(lambda m: "'" + _two_digits(m[1]), text)


def read_times(text: str, colon: str) -> str:
    """12:30 as twelve`colon`thirty, 3:05pm as three`colon`oh five p.m., 15:00 fifteen hundred."""
    text = _POINTED.sub(r"\1:\2", text)
    text = _HALF.sub(lambda m: f" {m[1].lower()}.m.", text)
    text = _UNTIL.sub(" to ", text)
    return _TIME.sub(lambda m: _time(m, colon), text)


def open_times(text: str) -> str:
    """LJSpeech's twelve:thirty as twelve thirty: its colon is no pause."""
    return _HOUR_WITH_COLON.sub(r"\1 ", text)


def _two_digits(digits: str) -> str:
    return f"oh {cardinal(int(digits[1]))}" if digits[0] == "0" else cardinal(int(digits))


def _date(year: str, month: str, day: str) -> str:
    spoken_year = pairs(year) if len(year) == 4 else _two_digits(year)
    return f"{MONTHS[int(month) - 1]} {cardinal(int(day))}, {spoken_year}"


def _slashed(match: re.Match[str]) -> str:
    first, second = int(match[1]), int(match[2])
    if 1 <= first <= 12 and 1 <= second <= 31:
        return _date(match[3], match[1], match[2])
    if 1 <= second <= 12 and 1 <= first <= 31:
        return _date(match[3], match[2], match[1])
    return match[0]


def _full(short: str, names: tuple[str, ...]) -> str:
    return next(name for name in names if name.startswith(short[:3].capitalize()))


def _decade(match: re.Match[str]) -> str:
    quote, digits = match.groups()
    if len(digits) == 2:
        return quote + plural("zero" if digits == "00" else cardinal(int(digits)))
    # 1963's is a possessive; a plain number rule reads it.
    return quote + plural(pairs(digits)) if digits[3] == "0" else match[0]


def _time(match: re.Match[str], colon: str) -> str:
    hour, minute, second, half = int(match[1]), match[2], int(match[3] or 0), match[4]
    if minute == "00" and not second:
        if half:
            return cardinal(hour)
        if hour > 12:
            return f"{cardinal(hour)} hundred"
        return f"{cardinal(hour)} o'clock" if hour else "midnight"
    words = cardinal(hour)
    if minute != "00":
        words += colon + _two_digits(minute)
    if second:
        words += f" and {cardinal(second)} second" + ("s" if second > 1 else "")
    return words
