"""English text as it is spoken: the groups of rules of english.toml in their order."""

import re

from tacoskip.text.folding import clean, fold
from tacoskip.text.symbols import PHONEME_MARK
from tacoskip.text.tables import apply_rules

STYLES = ("spoken", "ljspeech")
_HELD = "\ue000"  # a private character in the place of [[phonemes]]
_DIGIT = re.compile("[0-9⁰¹²³⁴⁵⁶⁷⁸⁹]")


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
    text = apply_rules(fold(text) if spoken else text, "addresses", "compound_signs")
    if _DIGIT.search(text):
        text = apply_rules(text, "dates", "times", "money", "measures")
    text = apply_rules(text, "roman", "references")
    if _DIGIT.search(text):
        text = apply_rules(text, "numbers")
    text = clean(apply_rules(text, "signs"))
    return clean(apply_rules(text, "abbreviations")) if spoken else text
