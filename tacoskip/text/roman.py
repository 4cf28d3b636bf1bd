"""Roman numerals: Henry VIII is Henry the eighth, Chapter IV is Chapter four."""

import re

from tacoskip.text.abbreviations import ends_sentence
from tacoskip.text.numbers import cardinal, ordinal
from tacoskip.text.tables import words

_ROMAN = "M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}

_AFTER = "(?![\\w'-]|\\.[A-Za-z])"

_RULER = re.compile(
    rf"\b({'|'.join(sorted(words('rulers')))}) (?=[IVXLC])({_ROMAN})({_AFTER}|(?='s\b))(\.?)"
)
_PART = re.compile(
    rf"(?<!\w)({'|'.join(map(re.escape, sorted(words('parts'))))}) (?=[IVXLC])({_ROMAN}){_AFTER}",
    re.I | re.A,
)
_WORLD_WAR = re.compile(r"(?<!\w)WW(I{1,2})(?!\w)")
_CENTURY = re.compile(
    rf"(?<![\w.-])(?=[IVX])({_ROMAN})(?=(?:th)? (?:century|centuries|dynasty)\b)(?:th)?"
)
# First Last III: two capitalised words before a numeral above one.
_HEIR = re.compile(r"(?<=[a-z.] )([A-Z][a-z]{1,20}),? (II|III)(?![\w'-]|\.[A-Za-z])")
_ALONE = re.compile(r"(?<![\w.'-])(?=[IVX]{2})(?!(?:IV|XX|XXX|VI)(?!\w))([XIV]{2,7})(?![\w'-])")
# One letter alone is a pronoun or an initial unless what follows makes it part of the name.
_CAPITAL = re.compile(" [A-Z]")
_FOLLOWS_NAME = re.compile(r"[.,;:)]|$| (?:of|and|was|had|in|died|married|became|ruled|reigned)\b")


def read_roman(text: str) -> str:
    """Numerals of rulers as ordinals, of chapters, wars and the like as cardinals."""
    text = _WORLD_WAR.sub(lambda m: f"World War {cardinal(len(m[1]))}", text)
    text = _RULER.sub(_ruler, text)
    text = _PART.sub(_part, text)
    text = _CENTURY.sub(lambda m: ordinal(_value(m[1])), text)
    text = _HEIR.sub(lambda m: f"{m[1]} the {ordinal(_value(m[2]))}", text)
    return _ALONE.sub(_alone, text)


def _value(numeral: str) -> int:
    values = [_VALUES[letter] for letter in numeral.upper()]
    return sum(-v if v < after else v for v, after in zip(values, [*values[1:], 0], strict=True))


def _ruler(match: re.Match[str]) -> str:
    name, numeral, _, stop = match.groups()
    if len(numeral) == 1:
        initial = stop and _CAPITAL.match(match.string, match.end())
        pronoun = not _FOLLOWS_NAME.match(match.string, match.end(2))
        if numeral in "LC" or (initial and not ends_sentence(match.string, match.end())) or pronoun:
            return match[0]
    if stop and not ends_sentence(match.string, match.end()):
        # Older print puts a full stop behind the numeral itself: George IV. was crowned.
        stop = ""
    return f"{name} the {ordinal(_value(numeral))}{stop}"


def _part(match: re.Match[str]) -> str:
    noun, numeral = match.groups()
    if numeral in ("C", "L", "c", "l", "i", "v", "x"):
        return match[0]
    if numeral == "I" and noun not in ("War", "Apollo"):
        # The part I played: a pronoun, unless the noun is a heading and the phrase ends here.
        heading = noun[0].isupper() and _FOLLOWS_NAME.match(match.string, match.end())
        if not heading:
            return match[0]
    return f"{noun} {cardinal(_value(numeral))}"


def _alone(match: re.Match[str]) -> str:
    numeral = match[1]
    return cardinal(_value(numeral)) if re.fullmatch(_ROMAN, numeral) else numeral
