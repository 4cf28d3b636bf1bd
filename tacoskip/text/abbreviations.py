"""Abbreviations and initialisms: Dr. Smith is Doctor Smith, the FBI the F B I."""

import re

from tacoskip.text.boundaries import ends_sentence
from tacoskip.text.words import READ_AS_WORDS, SPELLED

# Before a capital, and never at the end of a sentence.
BEFORE_NAMES = {
    "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Messrs": "Messieurs", "Dr": "Doctor",
    "Drs": "Doctors", "Prof": "Professor", "Rev": "Reverend", "Revd": "Reverend",
    "Hon": "Honorable", "Gen": "General", "Brig": "Brigadier", "Maj": "Major", "Col": "Colonel",
    "Lt": "Lieutenant", "Capt": "Captain", "Cpl": "Corporal", "Sgt": "Sergeant", "Pvt": "Private",
    "Cmdr": "Commander", "Cdr": "Commander", "Adm": "Admiral", "Gov": "Governor",
    "Sen": "Senator", "Rep": "Representative", "Pres": "President", "Supt": "Superintendent",
    "Insp": "Inspector", "Msgr": "Monsignor", "Mme": "Madame", "Mlle": "Mademoiselle",
    "St": "Saint", "Ste": "Sainte", "Mt": "Mount", "Ft": "Fort", "Pt": "Point",
}  # fmt: skip
# Anywhere; the stop stays where it also ends a sentence.
ANYWHERE = {
    "Jr": "Junior", "Sr": "Senior", "Esq": "Esquire", "Bros": "Brothers", "Co": "Company",
    "Corp": "Corporation", "Inc": "Incorporated", "Ltd": "Limited", "Dept": "Department",
    "Apt": "Apartment",
    "Univ": "University", "Assn": "Association", "Bart": "Baronet", "Ave": "Avenue",
    "Blvd": "Boulevard", "Rd": "Road", "Hwy": "Highway", "Pkwy": "Parkway", "Ln": "Lane",
    "Sq": "Square", "etc": "et cetera", "vs": "versus", "viz": "namely", "cf": "compare",
    "approx": "approximately", "incl": "including", "dept": "department", "misc": "miscellaneous",
    "govt": "government", "Govt": "Government", "avg": "average", "max": "maximum",
    "tel": "telephone", "Tel": "Telephone", "ext": "extension", "Ext": "Extension",
    "oz": "ounces", "lbs": "pounds", "Jan": "January", "Feb": "February", "Aug": "August",
    "Sept": "September", "Oct": "October", "Nov": "November", "Dec": "December",
}  # fmt: skip
# Before a number, which is in words by now.
BEFORE_NUMBERS = {
    "vol": "volume", "vols": "volumes", "fig": "figure", "figs": "figures", "p": "page",
    "pp": "pages", "ch": "chapter", "chap": "chapter", "sec": "section", "art": "article",
    "para": "paragraph", "eq": "equation", "no": "number", "ca": "circa", "op": "opus",
}  # fmt: skip
_NUMBER_WORD = (
    "(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
    "(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty)"
)
_LATIN = {"i.e.": "that is", "e.g.": "for example", "a.k.a.": "also known as"}

_LATIN_FORM = re.compile(r"(?<![\w.])(i\. ?e\.|e\. ?g\.|a\.k\.a\.|I\.e\.|E\.g\.)")
_TITLE = re.compile(rf"(?<![\w.'])({'|'.join(BEFORE_NAMES)})\. ?(?=[A-Z\"'(]|(?:and|or) [A-Z])")
_LONE_TITLE = re.compile(r"(?<![\w.'])(Mr|Mrs|Messrs|Drs?|Prof|Capt|Lt|Sgt|Gov|Rev)\.(?!\w)")
_BARE_TITLE = re.compile(r"(?<![\w.'])(Mr|Mrs|Ms|Dr|Prof) (?=[A-Z][a-z])")
# Elm St. is a street, St. Paul a saint; 12 Mulholland Dr. is a drive.
_STREET = re.compile(
    r"(?<!\w)([A-Z][a-z]{1,20}(?:'s)?|[a-z-]{0,20}(?:th|first|second|third))"
    r" (St|Dr|Pl|Ct)\b(?!')(\.?)"
)
_STREET_WORDS = {"St": "Street", "Dr": "Drive", "Pl": "Place", "Ct": "Court"}
_WORD = re.compile(rf"(?<![\w.'])({'|'.join(ANYWHERE)})\.(?!\w)")
_NUMBERED = re.compile(rf"(?<![\w.'])((?i:{'|'.join(BEFORE_NUMBERS)}))\. ?(?={_NUMBER_WORD}\b)")
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


def open_abbreviations(text: str) -> str:
    """Titles, Latin, companies, streets and initials in full; initialisms letter by letter."""
    text = _DEGREE.sub(_degree, text)
    if "." in text:
        text = _LATIN_FORM.sub(lambda m: _LATIN[m[0].lower().replace(" ", "")], text)
        text = _DOTTED.sub(_dotted, text)
        text = _STREET.sub(_street, text)
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
    if _NAME.match(text, end) and not ends_sentence(text, end):
        return match[0]
    return f"{match[1]} {_STREET_WORDS[match[2]]}{_kept_stop(match)}"


def _numbered(match: re.Match[str]) -> str:
    word = BEFORE_NUMBERS[match[1].lower()]
    return (word.capitalize() if match[1][0].isupper() else word) + " "


def _dotted(match: re.Match[str]) -> str:
    letters = re.sub(r"[. ]", "", match[1]).upper()
    stop = "." if ends_sentence(match.string, match.end()) else ""
    return " ".join(letters) + ("'s" if match[2] else "") + stop


def _spell(match: re.Match[str]) -> str:
    shouted, word, ending = match.groups()
    if shouted or word in READ_AS_WORDS:
        return match[0]
    sayable = len(word) > 2 and _ONSET.match(word) and _CODA.search(word)
    if sayable and word not in SPELLED:
        return match[0]
    return " ".join(word) + ("'s" if ending else "")
