"""What is written in a rule's template: groups of the match, read by name."""

import re

from tacoskip.text.numbers import cardinal, digit_names, number, ordinal, pairs, plural
from tacoskip.text.sentences import ends_sentence
from tacoskip.text.tables import ANY_CASE, ENGLISH, words

_MONTHS, _DAYS = ENGLISH["months"].split(), ENGLISH["days"].split()
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


class _Group(str):
    """A group of a match, "" where it is not there; formats itself as `WORDS` and tables say."""

    def __format__(self, how: str) -> str:
        if not how or not self:
            return str(self)
        return WORDS[how](self) if how in WORDS else str(ENGLISH[how][self])


def fill(template: str, match: re.Match[str]) -> str:
    """Return the reading of a match by the template of its rule."""
    stop = kept_stop(match) if "{stop}" in template else ""
    return template.format(_Group(match[0]), *map(_Group, match.groups("")), stop=stop)


def kept_stop(match: re.Match[str]) -> str:
    return "." if match[0].endswith(".") and ends_sentence(match.string, match.end()) else ""


def _address(address: str) -> str:
    signs, spelled = ENGLISH["address_signs"], words("spelled_in_addresses")
    found = []
    for part in re.findall(r"[A-Za-z]+|[0-9]+|.", address):
        if part.isdigit() and part.isascii() and len(part) > 2:
            part = digit_names(part)
        elif part.lower() in spelled:
            part = " ".join(part.upper())
        found.append(signs.get(part, part))
    return " ".join(found)


def _url(address: str) -> str:
    # The stop or comma behind an address is the sentence's, not the address'.
    bare = address.rstrip(".,;:!?)'")
    return _address(bare.rstrip("/")) + address[len(bare) :]


def year(digits: str) -> str:
    if len(digits) > 2:
        return pairs(digits)
    return f"oh {cardinal(int(digits[1]))}" if digits[0] == "0" else cardinal(int(digits))


def _decade(digits: str) -> str:
    return "zeros" if digits == "00" else plural(year(digits))


def _full(short: str) -> str:
    return next(name for name in (*_MONTHS, *_DAYS) if name.startswith(short[:3].capitalize()))


def roman_value(numeral: str) -> int:
    values = [_VALUES[letter] for letter in numeral.upper()]
    return sum(-v if v < after else v for v, after in zip(values, [*values[1:], 0], strict=True))


def _power(exponent: str) -> str:
    exponent = exponent.translate(_SUPERSCRIPTS)
    return {"2": " squared", "3": " cubed"}.get(exponent, f" to the power of {exponent}")


def unit_name(sign: str, count: int = 1) -> str:
    """The name of a unit, its sign in any case where no other unit differs in case alone."""
    units = ENGLISH["units"]
    forms = units.get(sign) or units.get(ANY_CASE.get(sign.lower(), "")) or sign
    one, several = (forms, plural(forms)) if isinstance(forms, str) else forms
    return str(one if count == 1 else several)


def _numbered(short: str) -> str:
    word = str(ENGLISH["before_numbers"][short.lower()])
    return word.capitalize() if short[0].isupper() else word


WORDS = {
    "address": _address,
    "after": lambda digits: f", {digit_names(digits)}",
    "cardinal": lambda digits: cardinal(int(digits)),
    "decade": _decade,
    "digits": digit_names,
    "full": _full,
    "groups": lambda digits: ", ".join(map(digit_names, re.split("[ -]", digits))),
    "letter": lambda letter: f" {letter}",
    "lower": str.lower,
    "month": lambda digits: _MONTHS[int(digits) - 1],
    "numbered": _numbered,
    "oh": lambda digits: digit_names(digits, "oh"),
    "ordinal": lambda digits: ordinal(int(digits.replace(",", ""))),
    "pairs": pairs,
    "possessive": lambda s: "'s",
    "power": _power,
    "rank": lambda numeral: ordinal(roman_value(numeral)),
    "roman": lambda numeral: cardinal(roman_value(numeral)),
    "space": lambda sign: " ",
    "spelled": lambda letters: " ".join(letters.upper()),
    "unit": unit_name,
    "upper": str.upper,
    "url": _url,
    "version": lambda digits: " point ".join(map(number, digits.split("."))),
    "year": year,
}
