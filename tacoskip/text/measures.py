"""Units behind a number, degrees, fractions and powers.

Only the unit is written out here (5 km becomes 5 kilometers); the number rules that follow read
the number, so that a range or a decimal before a unit is read like any other.
"""

import re

from tacoskip.text.numbers import cardinal, ordinal, plural
from tacoskip.text.tables import table, words

_UNITS = table("units")
_ANY_CASE = {s.lower(): s for s in reversed(_UNITS) if len(s) > 1 and s not in words("exact_units")}
_EXACT = [re.escape(s) for s in _UNITS if s not in _ANY_CASE.values()]
_SIGNS = "|".join(sorted((re.escape(s) for s in _ANY_CASE if s != "in"), key=len, reverse=True))
# "In" is a unit only with its stop: 2.5 in. of rain.
_SIGN = rf"(?:(?i:{_SIGNS})|{'|'.join(_EXACT)}|in(?=\.(?![\w.])))"
_LARGE = "hundred|thousand|million|billion|trillion"
_TIME_WORDS = "hour|second|minute|day|week|month|year"
_COUNT = rf"([0-9][0-9,.]{{0,20}}(?<=[0-9])(?: (?:{_LARGE}))?)"
_UNIT = re.compile(
    rf"(?<![A-Za-z0-9]){_COUNT}([ -]?)({_SIGN})([²³]|(?<=m)[23])?"
    rf"(?:/(s|h|{_TIME_WORDS}|{_SIGN}))?([²³]?)(?![\w°²³]|/[a-z])(\.?)"
)
_PROPER_FRACTION = re.compile(r"(?:^|[^0-9 -][ -]?|[^0-9][ -])[0-9]{1,3}/$")
# Twelve per kilogram, twenty dollars per hour.
_PER = re.compile(
    rf"(?<=[0-9a-z])/({_TIME_WORDS})\b|"
    r"(?:(?<=[0-9])|(?<=dollar)|(?<=dollars)|(?<=cents)|(?<=pounds)|(?<=euros))"
    rf"/((?i:{_SIGNS}))(?![\w/])"
)
# Behind the stop of a unit a capital begins a sentence; no name follows a unit.
_SENTENCE = re.compile(r"[\"')\]]{0,3}(?:$| [\"'(]?[A-Z])")
# Seconds and millions only behind a decimal: 9.58 s, 1.2M users.
_DECIMAL = re.compile(r"(?<![\w.])([0-9,]{1,15}\.[0-9]{1,9})(?: (s)|([kKMB]))(?![\w'])")
_DECIMAL_UNITS = {"s": "seconds", "k": "thousand", "K": "thousand", "M": "million", "B": "billion"}
_LENGTHS = re.compile(
    r"(?<![\w.])([0-9]{1,2})(?:['′] ?([0-9]{1,2})(?:[\"″]|'')| ft\.? ([0-9]{1,2}) in\b\.?)"
)

_DENOMINATORS = frozenset((2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 32, 64, 100, 1000))
_IDIOMS = {"24/7": "twenty-four seven", "9/11": "nine eleven", "50/50": "fifty-fifty"}
_FRACTION = re.compile(
    r"(?<![\w/.,])(?:([0-9]{1,6})(?: |-)?(?<=[ -]))?([0-9]{1,3})/([0-9]{1,4})(?![\w/]|[.,][0-9])"
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_POWER = re.compile(r"(?<=[\w)])(?:(⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,9})|\^(-?[0-9]{1,9}))")
_TIMES = re.compile(r"(?<=[0-9]) ?[×*] ?(?=[0-9])|(?<=[0-9])x(?=[0-9])")


def read_measures(text: str) -> str:
    """Units, fractions, powers and products in words; whole numbers stay as they are."""
    text = _LENGTHS.sub(lambda m: f"{m[1]} feet {m[2] or m[3]} inches", text)
    text = _TIMES.sub(lambda m: " by " if m[0] == "x" else " times ", text)
    text = _DECIMAL.sub(lambda m: f"{m[1]} {_DECIMAL_UNITS[m[2] or m[3]]}", text)
    text = _UNIT.sub(_unit, text)
    text = _PER.sub(lambda m: f" per {_name(m[1] or m[2], 1)}", text)
    if "/" in text:
        text = _FRACTION.sub(_fraction, text)
    return _POWER.sub(_power, text)


def _name(sign: str, count: float) -> str:
    """The name of a unit, its sign in any case where no other unit differs in case alone."""
    forms = _UNITS.get(sign) or _UNITS.get(_ANY_CASE.get(sign.lower(), "")) or sign
    one, several = (forms, plural(forms)) if isinstance(forms, str) else forms
    return one if count == 1 else several


def _unit(match: re.Match[str]) -> str:
    count, gap, sign, power, per, per_power, stop = match.groups()
    # A five-kilometer run: with a hyphen the measure is an adjective and stays singular, as it
    # does behind a fraction, 1/2 km, but not behind 2 1/2 km.
    fraction = _PROPER_FRACTION.search(match.string, max(0, match.start() - 8), match.start())
    name = _name(sign, 1 if count == "1" or gap == "-" or fraction else 2)
    if power:
        name = ("square " if power in "²2" else "cubic ") + name
    if per:
        name += " per " + _name({"s": "sec", "h": "hr"}.get(per, per), 1)
    if per_power:
        name += " squared" if per_power == "²" else " cubed"
    if stop and not _SENTENCE.match(match.string, match.end()):
        stop = ""
    return f"{count}{'-' if gap == '-' else ' '}{name}{stop}"


def _fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match[1], int(match[2]), int(match[3])
    if match[0] in _IDIOMS:
        return _IDIOMS[match[0]]
    if bottom not in _DENOMINATORS or top == 0 or (top > bottom and bottom > 10):
        return f"{whole + ' ' if whole else ''}{cardinal(top)} over {cardinal(bottom)}"
    part = {2: "half", 4: "quarter"}.get(bottom) or ordinal(bottom).removeprefix("one ")
    if top > 1:
        part = "halves" if bottom == 2 else plural(part)
    if not whole:
        return f"{cardinal(top)} {part}"
    return f"{whole} and {'a' if top == 1 else cardinal(top)} {part}"


def _power(match: re.Match[str]) -> str:
    exponent = match[1].translate(_SUPERSCRIPTS) if match[1] else match[2]
    return {"2": " squared", "3": " cubed"}.get(exponent, f" to the power of {exponent}")
