"""English text as it is spoken: the rules, in the order in which they are applied."""

import re

from tacoskip.text.abbreviations import open_abbreviations, spell_initialisms
from tacoskip.text.counting import read_numbers, read_references
from tacoskip.text.dates import open_times, read_dates, read_times
from tacoskip.text.folding import clean, fold
from tacoskip.text.measures import read_measures
from tacoskip.text.money import read_money
from tacoskip.text.roman import read_roman
from tacoskip.text.symbols import PHONEME_MARK
from tacoskip.text.tables import table
from tacoskip.text.web import read_addresses

STYLES = ("spoken", "ljspeech")
_HELD = "\ue000"  # a private character in the place of [[phonemes]]
_DIGIT = re.compile("[0-9⁰¹²³⁴⁵⁶⁷⁸⁹]")

_SIGNS = table("signs")
_SIGN = re.compile(" ?([" + re.escape("".join(_SIGNS)) + "])( ?)")
_NUMBER_SIGN = re.compile(r"#(?= ?-?[0-9])")
_ABOUT = re.compile(r"~(?= ?[$£€]?[0-9])")
_COMPARED = {"<=": "≤", ">=": "≥", "!=": "≠", "==": "=", "+/-": "±", "->": " to ", "&c.": "etc."}
_OR = re.compile(r"\b(he|she|his|her|him|(and))/(or|she|he|hers?|his)\b", re.IGNORECASE)
_SHORT = {"w/": "with", "w/o": "without", "c/o": "care of"}
_SHORT_FORM = re.compile(r"(?<![\w/])(w/o|w/|c/o)(?![\w/])")


def normalize(text: str, style: str = "spoken") -> str:
    """Write English `text` as the words a reader says; letter case and punctuation stay.

    Numbers, dates, times, money, units, fractions, ordinals, Roman numerals, references and signs
    become words. style "spoken" also folds Unicode to ASCII, opens abbreviations (Dr., etc.) and
    spells initialisms (FBI). style "ljspeech" leaves those, and the colon of a time, as the
    normalised transcripts of LJSpeech do. [[Phonemes]] stay as written. Never fails on a string.
    A character that has no spoken form stays: the tokenizer drops it and says so.
    """
    if style not in STYLES:
        raise ValueError(f"expected style {' or '.join(STYLES)}, got {style!r}")
    spoken = style == "spoken"
    text = clean(text)
    if phonemes := PHONEME_MARK.findall(text):
        held, text = iter(phonemes), PHONEME_MARK.sub(_HELD, text.replace(_HELD, ""))
        return re.sub(_HELD, lambda m: next(held), normalize(text, style))
    if spoken:
        text = fold(text)
    text = _prepare_signs(read_addresses(text))
    if _DIGIT.search(text):
        text = read_times(read_dates(text), " " if spoken else ":")
        text = read_measures(read_money(text))
    text = read_references(read_roman(text))
    if _DIGIT.search(text):
        text = read_numbers(text)
    text = clean(_SIGN.sub(_sign, text))
    if spoken:
        text = open_abbreviations(open_times(text))
        text = spell_initialisms(text)
    return clean(text)


def _prepare_signs(text: str) -> str:
    """Signs whose meaning depends on the digits behind them, and those of two characters."""
    text = _ABOUT.sub("about ", _NUMBER_SIGN.sub("number ", text))
    text = _SHORT_FORM.sub(lambda m: _SHORT[m[1]], text)
    text = _OR.sub(lambda m: m[1] + (" " if m[2] else " or ") + m[3], text)
    for written, sign in _COMPARED.items():
        text = text.replace(written, sign)
    return text


def _sign(match: re.Match[str]) -> str:
    word, after = _SIGNS[match[1]], match.string[match.end() : match.end() + 1]
    tight = ",.;:!?)" if match[2] else ",.;:!?)]\"'-"
    return f" {word}{'' if after in tight else ' '}" if word else " "
