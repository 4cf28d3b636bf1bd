"""Abbreviations and initialisms: Dr. Smith is Doctor Smith, the FBI the F B I."""

import re

from tacoskip.text.numbers import NUMBER_WORD
from tacoskip.text.tables import table, words

BEFORE_NAMES, ANYWHERE = table("before_names"), table("anywhere")
BEFORE_NUMBERS = table("before_numbers")  # which are in words by now
STREETS = table("streets")
_LATIN = {"i.e.": "that is", "e.g.": "for example", "a.k.a.": "also known as"}
_STARTERS, _READ_AS_WORDS, _SPELLED = words("starters"), words("read_as_words"), words("spelled")
_CLOSERS, _OPENERS = "\"')]}", "\"'(["

_LATIN_FORM = re.compile(r"(?<![\w.])(i\. ?e\.|e\. ?g\.|a\.k\.a\.|I\.e\.|E\.g\.)")
_TITLE = re.compile(rf"(?<![\w.'])({'|'.join(BEFORE_NAMES)})\. ?(?=[A-Z\"'(]|(?:and|or) [A-Z])")
_LONE_TITLE = re.compile(r"(?<![\w.'])(Mr|Mrs|Messrs|Drs?|Prof|Capt|Lt|Sgt|Gov|Rev)\.(?!\w)")
_BARE_TITLE = re.compile(r"(?<![\w.'])(Mr|Mrs|Ms|Dr|Prof) (?=[A-Z][a-z])")
_STREET = re.compile(
    r"(?<!\w)([A-Z][a-z]{1,20}(?:'s)?|[a-z-]{0,20}(?:th|first|second|third))"
    rf" ({'|'.join(STREETS)}|st|ave|blvd|expy|hwy|pkwy|rd)\b(?!')(\.?)"
)
_WORD = re.compile(rf"(?<![\w.'])({'|'.join(ANYWHERE)})\.(?!\w)")
_NUMBERED = re.compile(rf"(?<![\w.'])((?i:{'|'.join(BEFORE_NUMBERS)}))\. ?(?={NUMBER_WORD}\b)")
_DOTTED = re.compile(
    r"(?<![\w.'])((?:[A-Za-z]\.){1,9}[A-Za-z]|(?:[A-Z]\. ?){1,9}[A-Z])\.(s?)(?!\w)"
)
_DEGREE = re.compile(r"(?<![\w.])(Ph|Litt|Ed|LL|Sc|Th|Mus)\.? ?D(?:\.(s?)|(s?))(?!\w)")
_INITIAL = re.compile(r"(?<![\w.'])(?<![A-Z] )([A-Z])\.(?= [A-Z])")
_NAME = re.compile(" [A-Z][a-z]")

_CAPITALS = re.compile(
    # Three words in capitals on end are shouted, not spelled.
    r"(?<![\w'])(?:([A-Z][A-Z']{1,20}(?: [A-Z][A-Z']{0,20}){2,})|([A-Z]{2,6})('?s)?)(?!\w)"
)
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


def ends_sentence(text: str, end: int) -> bool:
    """Whether a sentence ends at `end`, behind a stop: the text does, or a new one begins."""
    behind = text[end : end + 40].lstrip(_CLOSERS)
    if not behind:
        return True
    word = re.match("[^\\W\\d_]*", behind[1:].lstrip(_OPENERS))
    return behind[0] == " " and word is not None and word[0] in _STARTERS


def open_abbreviations(text: str) -> str:
    """Titles, Latin, companies, streets and initials in full; initialisms letter by letter."""
    text = _STREET.sub(_street, _DEGREE.sub(_degree, text))
    if "." in text:
        text = _LATIN_FORM.sub(lambda m: _LATIN[m[0].lower().replace(" ", "")], text)
        text = _DOTTED.sub(_dotted, text)
        text = _TITLE.sub(lambda m: BEFORE_NAMES[m[1]] + " ", text)
        text = _LONE_TITLE.sub(lambda m: BEFORE_NAMES[m[1]] + _kept_stop(m), text)
        text = _NUMBERED.sub(_numbered, text)
        text = _WORD.sub(lambda m: ANYWHERE[m[1]] + _kept_stop(m), text)
        text = _INITIAL.sub(lambda m: m[1] + _kept_stop(m), text)
    return _BARE_TITLE.sub(lambda m: BEFORE_NAMES[m[1]] + " ", text)


def spell_initialisms(text: str) -> str:
    """FBI as F B I, NATO as it is, by whether an English syllable could sound so; WOW as it is."""
    return _CAPITALS.sub(_spell, text)


def _kept_stop(match: re.Match[str]) -> str:
    return "." if match[0].endswith(".") and ends_sentence(match.string, match.end()) else ""


def _degree(match: re.Match[str]) -> str:
    plural = "'s" if match[2] or match[3] else ""
    return f"{' '.join(match[1].upper())} D{plural}{_kept_stop(match)}"


def _street(match: re.Match[str]) -> str:
    text, end = match.string, match.end()
    if match[2] in ("St", "Dr") and _NAME.match(text, end) and not ends_sentence(text, end):
        return match[0]
    return f"{match[1]} {STREETS[match[2].capitalize()]}{_kept_stop(match)}"


def _numbered(match: re.Match[str]) -> str:
    word = BEFORE_NUMBERS[match[1].lower()]
    return (word.capitalize() if match[1][0].isupper() else word) + " "


def _dotted(match: re.Match[str]) -> str:
    letters = re.sub(r"[. ]", "", match[1]).upper()
    stop = "." if ends_sentence(match.string, match.end()) else ""
    return " ".join(letters) + ("'s" if match[2] else "") + stop


def _spell(match: re.Match[str]) -> str:
    shouted, word, ending = match.groups()
    if shouted or word in _READ_AS_WORDS:
        return match[0]
    sayable = len(word) > 2 and _ONSET.match(word) and _CODA.search(word)
    if sayable and word not in _SPELLED:
        return match[0]
    return " ".join(word) + ("'s" if ending else "")
