"""Signs that are words: & % @ + = and those of arithmetic."""

import re

from tacoskip.text.tables import table

_WORDS = table("signs")
_NUMBER_SIGN = re.compile(r"#(?= ?-?[0-9])")
_ABOUT = re.compile(r"~(?= ?[$£€]?[0-9])")
_COMPARED = (("<=", "≤"), (">=", "≥"), ("!=", "≠"), ("==", "="), ("+/-", "±"), ("->", " to "))
_OR = re.compile(r"\b(and|he|she|his|her|him)/(or|she|he|hers?|his)\b", re.IGNORECASE)
_SHORT = {"w/": "with", "w/o": "without", "c/o": "care of"}
_SHORT_FORM = re.compile(r"(?<![\w/])(w/o|w/|c/o)(?![\w/])")
_MARK = re.compile(" ?([" + re.escape("".join(_WORDS)) + "]) ?")


def prepare_marks(text: str) -> str:
    """Marks whose meaning depends on the digits behind them, and those of two characters."""
    text = _ABOUT.sub("about ", _NUMBER_SIGN.sub("number ", text))
    text = text.replace("&c.", "etc.")
    text = _SHORT_FORM.sub(lambda m: _SHORT[m[1]], text)
    text = _OR.sub(lambda m: m[1] + (" " if m[1].lower() == "and" else " or ") + m[2], text)
    for written, mark in _COMPARED:
        text = text.replace(written, mark)
    return text


def read_marks(text: str) -> str:
    """Every sign of `_WORDS` in words; others stay, for the tokenizer to keep or to name."""
    return _MARK.sub(_word, text)


def _word(match: re.Match[str]) -> str:
    word, after = _WORDS[match[1]], match.string[match.end() : match.end() + 1]
    return f" {word}{'' if after in ',.;:!?)' else ' '}" if word else " "
