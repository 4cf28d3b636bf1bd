"""Functions that rules of english.toml name: how a match is read.

What a bare number means is taken from its neighbours: "in 1850" is a year, "1850 men" a count,
"page 249" a reference, "411 Elm Street" an address, "Box 2915" a string of digits.
"""

import re

from tacoskip.text.numbers import cardinal, digit_names, number, ordinal, pairs, plural
from tacoskip.text.sentences import ends_sentence
from tacoskip.text.tables import ENGLISH, words
from tacoskip.text.templates import kept_stop, roman_value, unit_name, year

Match = re.Match[str]

_DENOMINATORS = frozenset((2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 32, 64, 100, 1000))
_IDIOMS = {"24/7": "twenty-four seven", "9/11": "nine eleven", "50/50": "fifty-fifty"}

_WORD_BEFORE = re.compile(r"([A-Za-z]+\.?,?) $")
_ERA = re.compile(r" ?(?:B\.C\.|A\.D\.|B\.C\.E\.|C\.E\.|BCE?\b|AD\b|CE\b)")
_PLURAL_NOUN = re.compile(
    r" (?!(?:was|is|has|does|as|his|its|this|thus|us|less|across|always|perhaps|unless|towards|"
    r"besides|campaigns|elections)\b)(?:[a-z]{2,24}s|men|women|people|children|feet)\b"
)
_AFTER_A_YEAR = re.compile(r"[,.;:)]| [A-Z]| (?:the|he|she|it|they|a|an|when|by|and|was|were)\b|$")
_PROPER_FRACTION = re.compile(r"(?:^|[^0-9 -][ -]?|[^0-9][ -])[0-9]{1,3}/$")
# Behind the stop of a unit a capital begins a sentence; no name follows a unit.
_SENTENCE = re.compile(r"[\"')\]]{0,3}(?:$| [\"'(]?[A-Z])")
# One letter alone is a pronoun or an initial unless what follows makes it part of the name.
_FOLLOWS_NAME = re.compile(r"[.,;:)]|$| (?:of|and|was|had|in|died|married|became|ruled|reigned)\b")
# How an English syllable may begin and end. FBI and IBM fit no syllable, so they are spelled.
_ONSET = re.compile(
    "(?:[BCDFGHJKLMNPRSTVWYZ]|[BCFGPS]L|[BCDFGPTW]R|S[CKMNPTW]|[DT]W|[CSTWPG]H|[KG]N|QU|S[CPT][LR]|"
    "S[CH][HLR]|THR)?[AEIOUY]"
)
_CODA = re.compile(
    "[AEIOU](?:[BCDFGHKLMNPRSTVWXYZ]|[LR][BCDFGKLMNPSTVZ]|N[CDGKNSTXZ]|M[BMNPS]|S[CHKMPST]|C[HKT]|"
    "[GPT]H|F[FT]|P[PST]|XT|ZZ|DD|GG|BB|T[TZ]|W[DKLN]|GHT|TCH|[LNR](?:[CST]H|LD|ST)|MPT|CK)?"
    "[AEIOUY]{0,2}[DS]?$"
)


def phone(match: Match) -> str:
    country, trunk, *groups, extension = match.groups()
    found = ", ".join(digit_names(group) for group in (trunk, *groups) if group)
    found += f", extension {digit_names(extension)}" if extension else ""
    return f"plus {digit_names(country[1:])}, {found}" if country else found


def time(match: Match) -> str:
    """12:30 as twelve:thirty, 3:05 as three:oh five, 15:00 as fifteen hundred."""
    hour, minute, second, half = int(match[1]), match[2], int(match[3] or 0), match[4]
    if minute == "00" and not second:
        if half:
            return cardinal(hour)
        if hour > 12:
            return f"{cardinal(hour)} hundred"
        return f"{cardinal(hour)} o'clock" if hour else "midnight"
    found = cardinal(hour) + (f":{year(minute)}" if minute != "00" else "")
    if second:
        found += f" and {cardinal(second)} second" + ("s" if second > 1 else "")
    return found


def amount(match: Match) -> str:
    """$13.87 as thirteen dollars, eighty-seven cents."""
    minus, country, sign, inner_minus, whole, part, scale, *short = match.groups()
    scale = scale or ENGLISH["scales"].get(short[0] or short[1] or "")
    found = _sum(sign, whole, part, scale)
    # A $20 bill, a £5 note: the sum is an adjective, which has no plural.
    noun = match.string[match.end() : match.end() + 12].lstrip(" -")
    one, several, _, _ = ENGLISH["currencies"][sign]
    if re.match(r"(bill|note|coin|banknote)s?\b", noun) and found.endswith(several):
        found = found[: -len(several)] + one
    if country:
        found = found.replace(one, f"{ENGLISH['dollars'][country]} {one}", 1)
    if minus or inner_minus:
        found = "minus " + found
    return found + (" " if match.string[match.end() : match.end() + 1].isalnum() else "")


def amount_behind(match: Match) -> str:
    return _sum(match[3], match[1], match[2], None)


def _sum(sign: str, whole: str | None, part: str | None, scale: str | None) -> str:
    one, several, hundredth, hundredths = ENGLISH["currencies"][sign]
    part = (part or "").rstrip("0")
    if scale or len(part) > 2 or (part and not hundredth):
        written = (whole or "0") + (f".{part}" if part else "")
        return " ".join(filter(None, (number(written), scale, several)))
    value, small = int((whole or "0").replace(",", "")), int(part.ljust(2, "0"))
    found = f"{cardinal(value)} {one if value == 1 else several}"
    if not small:
        return found
    cents = f"{cardinal(small)} {hundredth if small == 1 else hundredths}"
    return f"{found}, {cents}" if value else cents


def unit(match: Match) -> str:
    count, gap, sign, power, per, per_power, stop = match.groups()
    # A five-kilometer run: with a hyphen the measure is an adjective and stays singular, as it
    # does behind a fraction, 1/2 km, but not behind 2 1/2 km.
    fraction = _PROPER_FRACTION.search(match.string, max(0, match.start() - 8), match.start())
    name = unit_name(sign, 1 if count == "1" or gap == "-" or fraction else 2)
    if power:
        name = ("square " if power in "²2" else "cubic ") + name
    if per:
        name += " per " + unit_name({"s": "sec", "h": "hr"}.get(per, per))
    if per_power:
        name += " squared" if per_power == "²" else " cubed"
    if stop and not _SENTENCE.match(match.string, match.end()):
        stop = ""
    return f"{count}{'-' if gap == '-' else ' '}{name}{stop}"


def fraction(match: Match) -> str:
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


def ruler(match: Match) -> str:
    """Henry VIII as Henry the eighth."""
    name, numeral, _, stop = match.groups()
    ends = ends_sentence(match.string, match.end())
    if len(numeral) == 1:
        initial = stop and re.match(" [A-Z]", match.string[match.end() :][:2])
        pronoun = not _FOLLOWS_NAME.match(match.string, match.end(2))
        if numeral in "LC" or (initial and not ends) or pronoun:
            return match[0]
    # Older print puts a full stop behind the numeral itself: George IV. was crowned.
    return f"{name} the {ordinal(roman_value(numeral))}{stop if ends else ''}"


def part(match: Match) -> str:
    """Chapter IV as Chapter four."""
    noun, numeral = match.groups()
    if numeral in ("C", "L", "c", "l", "i", "v", "x"):
        return match[0]
    if numeral == "I" and noun not in ("War", "Apollo"):
        # The part I played: a pronoun, unless the noun is a heading and the phrase ends here.
        heading = noun[0].isupper() and _FOLLOWS_NAME.match(match.string, match.end())
        if not heading:
            return match[0]
    return f"{noun} {cardinal(roman_value(numeral))}"


def long_number(match: Match) -> str:
    return _spaced(match, (" point " if match[1] else "") + digit_names(match[2]))


def house(match: Match) -> str:
    found = digits = match[1]
    if len(digits) in (3, 4) and digits.endswith("00"):
        found = cardinal(int(digits))
    elif len(digits) in (3, 4):
        found = digit_names(digits, "oh") if len(digits) == 3 else pairs(digits)
    return f"{found} {ENGLISH['directions'][match[2]]}" if match[2] else found


def code(match: Match) -> str:
    found: list[str] = []
    for run in re.findall(r"[0-9]+|[A-Za-z]+", match[0]):
        if run[0] in "0123456789":
            # C2766 is the name of a thing, digit by digit; the 1080 of 1080p counts something.
            counts = len(run) <= (2 if found else 4) and run[0] != "0"
            found.append((pairs if len(run) == 4 else number)(run) if counts else digit_names(run))
        elif run in "kK" and len(match[0]) > 3 and len(found) == 1:
            found.append("thousand")
        elif len(run) <= 3 and (run.isupper() or not set(run) & set("aeiou")):
            found.append(" ".join(run))
        else:
            found.append(run)
    return " ".join(found)


def ratio(match: Match) -> str:
    # John 3:16 is chapter and verse, a ratio of 16:9 is not.
    found = _WORD_BEFORE.search(match.string, max(0, match.start() - 24), match.start())
    return f"{match[1]} " if found and found[1][0].isupper() else f"{match[1]} to "


def plural_number(match: Match) -> str:
    return plural(_in_context(match, match[1]))


def plain_number(match: Match) -> str:
    return _spaced(match, _in_context(match, match[0]))


def _spaced(match: Match, words: str) -> str:
    text, start, end = match.string, match.start(), match.end()
    before = " " if start and text[start - 1].isalnum() else ""
    return before + words + (" " if end < len(text) and text[end].isalnum() else "")


def _in_context(match: Match, digits: str) -> str:
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
    counted = before not in words("year_words") and _PLURAL_NOUN.match(text, end)
    return cardinal(int(digits)) if counted else pairs(digits)


def sign(match: Match) -> str:
    word, after = ENGLISH["signs"][match[1]], match.string[match.end() : match.end() + 1]
    tight = ",.;:!?)" if match[2] else ",.;:!?)]\"'-"
    return f" {word}{'' if after in tight else ' '}" if word else " "


def street(match: Match) -> str:
    text, end = match.string, match.end()
    is_title = match[2] in ("St", "Dr") and re.match(" [A-Z][a-z]", text[end : end + 3])
    if is_title and not ends_sentence(text, end):
        return match[0]
    return f"{match[1]} {ENGLISH['streets'][match[2].capitalize()]}{kept_stop(match)}"


def dotted(match: Match) -> str:
    letters = re.sub(r"[. ]", "", match[1]).upper()
    stop = "." if ends_sentence(match.string, match.end()) else ""
    return " ".join(letters) + ("'s" if match[2] else "") + stop


def capitals(match: Match) -> str:
    """FBI as F B I, NATO as it is, by whether an English syllable could sound so; WOW as it is."""
    shouted, word, ending = match.groups()
    if shouted or word in words("read_as_words"):
        return match[0]
    sayable = len(word) > 2 and _ONSET.match(word) and _CODA.search(word)
    if sayable and word not in words("spelled"):
        return match[0]
    return " ".join(word) + ("'s" if ending else "")
