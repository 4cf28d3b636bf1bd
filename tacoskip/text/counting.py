"""Every other number: references, codes, addresses, years, ordinals, ranges, plain counts.

What a bare number means is read off its neighbours: "in 1850" is a year, "1850 men" a count,
"page 249" a reference, "411 Elm Street" an address, "Box 2915" a string of digits.
"""

import re

from tacoskip.text.abbreviations import STREETS
from tacoskip.text.numbers import INTEGER, cardinal, digit_names, number, ordinal, pairs, plural
from tacoskip.text.tables import table, words

_DIRECTIONS, _STATES = table("directions"), table("states")
_YEAR_WORDS = words("year_words")
_LONG = re.compile(r"(?:(?<=[0-9])(\.))?([0-9]{19,})")
_NO = re.compile(r"(?<![\w.])([Nn])o(s?)\. ?(?=#?[A-Z]{0,3}-?[0-9])")
_DIGIT_STRING = re.compile(
    r"\b((?:P\.? ?O\.? )?box|zip(?: code)?|area code|code|call|dial|pin|serial number|"
    r"account number|extension|ext\.) ([0-9]{3,18})(?![\w,.]?[0-9])",
    re.IGNORECASE,
)
_ZIP = re.compile(r"(?<=[A-Z]{2} )([0-9]{5})(?:-([0-9]{4}))?(?!\w)")
_STATE = re.compile(  # with a zip code, or where it cannot be a word
    rf"(?<=[a-z], )({'|'.join(_STATES)})(?:,? ([0-9]{{5}})(?:-([0-9]{{4}}))?(?!\w)|"
    r"(?<!HI|ID|ME|OH|OK)(?=[.,;)]|$))"
)
_PLAN = re.compile(r"(?<![\w.])([0-9]{3})\(([a-z])\)(?:\(([0-9])\))?")  # 401(k)
_BIG_REFERENCE = re.compile(
    r"(?<=[Nn]umber )([0-9]{1,3}(?:,[0-9]{3}){2,5}|[0-9]{5,18})(?![\w,.]?[0-9])"
)
_REFERENCE = re.compile(
    r"\b(number|pages?|rooms?|frames?|flight|route|highway|interstate|apartment|suite|channel|bus|"
    r"P\.S\.) ([0-9]{3,4})(?![0-9]|,[0-9])(?:-([A-Z])(?!\w))?",
    re.IGNORECASE,
)
_STREET = rf"(?:Row|{'|'.join((*STREETS, *STREETS.values()))}|hwy|st)\b"
_ADDRESS = re.compile(
    r"(?<![\w.,$£])([0-9]{1,5})(?: ([NS][EW]?|[EW])\.?)?(?="
    rf"(?: [A-Z0-9][A-Za-z0-9']{{0,20}}){{1,3}} {_STREET}|"
    r" (?:North|South|East|West) [A-Z0-9])"
)
_CODE = re.compile(
    r"(?<![\w'.])(?=[A-Za-z]{0,31}[0-9])(?=[0-9]{0,31}[A-Za-z])[A-Za-z0-9]{2,32}(?!\w)"
)
_ORDINAL = re.compile(rf"(?<![\w.])({INTEGER})(st|nd|rd|th)(s?)(?!\w)", re.IGNORECASE)
_VERSION = re.compile(r"(?<![\w.])[0-9]{1,4}(?:\.[0-9]{1,4}){2,8}(?!\w|\.[0-9])")
_CALIBER = re.compile(
    r"(?<![\w.])\.([1-9][0-9])(?=[- ](?:cal|Special|Magnum|rifle|pistol|revolver|gun|carbine|round|"
    r"bullet|cartridge|ammunition))"
)
_RATIO = re.compile(r"(?<![\w:])([0-9]{1,4}):(?=[0-9]{1,4}(?![\w:]))")
_RANGE = re.compile(
    rf"(?<![\w.,-])(-?{INTEGER}(?:\.[0-9]{{1,9}})?%?)(?: - |-)"
    rf"(?=(-?{INTEGER}(?:\.[0-9]{{1,9}})?)(?![\w-]))"
)
_DIFFERENCE = re.compile(r"(?<=[0-9]) ?- ?(?=[0-9][0-9.,]{0,20} ?=)")
_MINUS = re.compile(r"(?:(?<=[\s(])|^)-(?=\.?[0-9])")
_PLURAL = re.compile(rf"(?<![\w.])({INTEGER})s(?!\w)")
_NUMBER = re.compile(rf"(?:{INTEGER})?\.[0-9]{{1,18}}(?![0-9])|{INTEGER}")

_WORD_BEFORE = re.compile(r"([A-Za-z]+\.?,?) $")
_ERA = re.compile(r" ?(?:B\.C\.|A\.D\.|B\.C\.E\.|C\.E\.|BCE?\b|AD\b|CE\b)")
_PLURAL_NOUN = re.compile(
    r" (?!(?:was|is|has|does|as|his|its|this|thus|us|less|across|always|perhaps|unless|towards|"
    r"besides|campaigns|elections)\b)(?:[a-z]{2,24}s|men|women|people|children|feet)\b"
)
_AFTER_A_YEAR = re.compile(r"[,.;:)]| [A-Z]| (?:the|he|she|it|they|a|an|when|by|and|was|were)\b|$")


def read_references(text: str) -> str:
    """References (No. 162, page 249), digit strings, addresses, codes and version numbers."""
    text = _LONG.sub(_long, text)
    text = _NO.sub(r"\1umber\2 ", text)
    text = _DIGIT_STRING.sub(lambda m: f"{m[1]} {digit_names(m[2])}", text)
    text = _PLAN.sub(lambda m: f"{digit_names(m[1], 'oh')} {m[2].upper()} {m[3] or ''}", text)
    text = _STATE.sub(_state, text)
    text = _ZIP.sub(lambda m: digit_names(m[1]) + (f", {digit_names(m[2])}" if m[2] else ""), text)
    text = _BIG_REFERENCE.sub(lambda m: digit_names(m[1]), text)
    text = _REFERENCE.sub(lambda m: f"{m[1]} {pairs(m[2])}{' ' + m[3] if m[3] else ''}", text)
    text = _ADDRESS.sub(_house, text)
    return _VERSION.sub(lambda m: " point ".join(map(number, m[0].split("."))), text)


def read_numbers(text: str) -> str:
    """All digits that are left, in words."""
    text = _CALIBER.sub(lambda m: cardinal(int(m[1])), text)
    text = _ORDINAL.sub(_ordinal, text)
    text = _PLURAL.sub(lambda m: plural(_in_context(m, m[1])), text)
    text = _CODE.sub(_code, text)
    text = _RATIO.sub(_ratio, text)
    text = _DIFFERENCE.sub(" minus ", text)
    # Fifty-fifty keeps its hyphen; everything else that is joined so is read "to".
    text = _RANGE.sub(lambda m: m[0] if m[1] == m[2] else f"{m[1]} to ", text)
    text = _MINUS.sub("minus ", text)
    return _NUMBER.sub(lambda m: _spaced(m, _in_context(m, m[0])), text)


def _long(match: re.Match[str]) -> str:
    return _spaced(match, (" point " if match[1] else "") + digit_names(match[2]))


def _state(match: re.Match[str]) -> str:
    zip_code = (digit_names(digits) for digits in match.groups()[1:] if digits)
    return ", ".join((_STATES[match[1]], *zip_code))


def _house(match: re.Match[str]) -> str:
    words = digits = match[1]
    if len(digits) in (3, 4) and digits.endswith("00"):
        words = cardinal(int(digits))
    elif len(digits) in (3, 4):
        words = digit_names(digits, "oh") if len(digits) == 3 else pairs(digits)
    return f"{words} {_DIRECTIONS[match[2]]}" if match[2] else words


def _ordinal(match: re.Match[str]) -> str:
    words = ordinal(int(match[1].replace(",", "")))
    return plural(words) if match[3] else words


def _code(match: re.Match[str]) -> str:
    words: list[str] = []
    for run in re.findall(r"[0-9]+|[A-Za-z]+", match[0]):
        if run[0] in "0123456789":
            # C2766 is the name of a thing, digit by digit; the 1080 of 1080p counts something.
            counts = len(run) <= (2 if words else 4) and run[0] != "0"
            words.append((pairs if len(run) == 4 else number)(run) if counts else digit_names(run))
        elif run in "kK" and len(match[0]) > 3 and len(words) == 1:
            words.append("thousand")
        elif len(run) <= 3 and (run.isupper() or not set(run) & set("aeiou")):
            words.append(" ".join(run))
        else:
            words.append(run)
    return " ".join(words)


def _ratio(match: re.Match[str]) -> str:
    # John 3:16 is chapter and verse, a ratio of 16:9 is not.
    found = _WORD_BEFORE.search(match.string, max(0, match.start() - 24), match.start())
    return f"{match[1]} " if found and found[1][0].isupper() else f"{match[1]} to "


def _spaced(match: re.Match[str], words: str) -> str:
    text, start, end = match.string, match.start(), match.end()
    before = " " if start and text[start - 1].isalnum() else ""
    return before + words + (" " if end < len(text) and text[end].isalnum() else "")


def _in_context(match: re.Match[str], digits: str) -> str:
    """The `digits` of a match in words: a year where the neighbours say so, or a number."""
    text, start, end = match.string, match.start(), match.end()
    if not digits.isdecimal() or len(digits) not in (3, 4):
        return number(digits)
    if _ERA.match(text, end):
        return pairs(digits)
    found = _WORD_BEFORE.search(text, max(0, start - 24), start)
    before = found[1].lower().rstrip(",") if found else ""
    if len(digits) == 3:
        dated = before in ("in", "year") and _AFTER_A_YEAR.match(text, end)
        return pairs(digits) if dated and digits[0] != "0" else number(digits)
    if not 1100 <= int(digits) <= 2099:
        return number(digits)
    counted = before not in _YEAR_WORDS and _PLURAL_NOUN.match(text, end)
    return cardinal(int(digits)) if counted else pairs(digits)
