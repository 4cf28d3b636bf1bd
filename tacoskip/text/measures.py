"""Units behind a number, percent, degrees, fractions and powers.

Only the unit is written out here (5 km becomes 5 kilometers); the number rules that follow read
the number, so that a range or a decimal before a unit is read like any other.
"""

import re

from tacoskip.text.numbers import cardinal, ordinal, plural
from tacoskip.text.tables import table

_UNITS = table("units")
_SIGNS = "|".join(re.escape(s) for s in sorted(_UNITS, key=len, reverse=True) if s != "in")
_UNIT = re.compile(
    rf"(?<![A-Za-z0-9])([0-9][0-9,.]{{0,20}})(?<=[0-9])([ -]?)({_SIGNS})([²³]?)"
    r"(?![\w°²³]|/[a-z])(\.?)"
)
# "In" is a unit only with its stop and behind a number: 2.5 in. of rain.
_INCHES = re.compile(r"(?<![A-Za-z0-9])([0-9][0-9,.]{0,20})(?<=[0-9])( )(in)()(\.)(?![\w.])")
# Behind the stop of a unit a capital begins a sentence; no name follows a unit.
_SENTENCE = re.compile(r"[\"')\]]{0,3}(?:$| [\"'(]?[A-Z])")
# Seconds and millions only behind a decimal: 9.58 s, 1.2M users.
_DECIMAL = re.compile(r"(?<![\w.])([0-9,]{1,15}\.[0-9]{1,9})(?: (s)|([kKMB]))(?![\w'])")
_DECIMAL_UNITS = {"s": "seconds", "k": "thousand", "K": "thousand", "M": "million", "B": "billion"}
_LENGTHS = re.compile(
    r"(?<![\w.])([0-9]{1,2})(?:['′] ?([0-9]{1,2})(?:[\"″]|'')| ft\.? ([0-9]{1,2}) in\b\.?)"
)
_PER = re.compile(r"(?<=[a-z])/(hour|second|minute|day|week|month|year)\b")

_DENOMINATORS = frozenset((2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 32, 64, 100, 1000))
_IDIOMS = {"24/7": "twenty-four seven", "9/11": "nine eleven", "50/50": "fifty-fifty"}
_FRACTION = re.compile(
    r"(?<![\w/.,])(?:([0-9]{1,6})(?: |-)?(?<=[ -]))?([0-9]{1,3})/([0-9]{1,4})(?![\w/]|[.,][0-9])"
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_POWER = re.compile(r"(?<=[\w)])(?:(⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,9})|\^(-?[0-9]{1,9}))")
_TIMES = re.compile(r"(?<=[0-9]) ?[×*] ?(?=[0-9])|(?<=[0-9])x(?=[0-9])")


def read_measures(text: str) -> str:
    """Units, percent, fractions, powers and products in words; whole numbers stay as they are."""
    text = text.replace("%", " percent") if "%" in text else text
    text = text.replace("‰", " per thousand")
    text = _LENGTHS.sub(lambda m: f"{m[1]} feet {m[2] or m[3]} inches", text)
    text = _TIMES.sub(_product, text)
    text = _DECIMAL.sub(lambda m: f"{m[1]} {_DECIMAL_UNITS[m[2] or m[3]]}", text)
    text = _INCHES.sub(_unit, text)
    text = _UNIT.sub(_unit, text)
    text = _PER.sub(r" per \1", text)
    if "/" in text:
        text = _FRACTION.sub(_fraction, text)
    return _POWER.sub(_power, text)


def _unit(match: re.Match[str]) -> str:
    count, gap, sign, power, stop = match.groups()
    entry = _UNITS[sign]
    one, several = (entry, plural(entry)) if isinstance(entry, str) else entry
    # A five-kilometer run: with a hyphen the measure is an adjective and stays singular.
    part = match.start() and match.string[match.start() - 1] == "/"
    name = one if count == "1" or gap == "-" or part else several
    if power:
        name = ("square " if power == "²" else "cubic ") + name
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
    if exponent in ("2", "3"):
        return " squared" if exponent == "2" else " cubed"
    return f" to the power of {exponent}"


def _product(match: re.Match[str]) -> str:
    return " by " if match[0] == "x" else " times "
