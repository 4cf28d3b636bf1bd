"""What a recognizer writes: lower-case letters, apostrophes inside words, single spaces."""

import re

from tacoskip.text.folding import clean, fold
from tacoskip.text.normalize import normalize

BLANK = "_"  # CTC's blank, never part of a text
LETTERS = (BLANK, " ", "'", *"abcdefghijklmnopqrstuvwxyz")

_LONE_APOSTROPHE = re.compile("(?<![a-z])'|'(?![a-z])")
_NO_LETTER = re.compile("[^a-z']+")


def plain_words(text: str, normalized: bool = False) -> str:
    """Return the words of `text` in LETTERS, without case and punctuation.

    normalized: `text` is in words already ("ten", not "10").
    """
    words = fold(clean(text) if normalized else normalize(text)).lower()
    words = _LONE_APOSTROPHE.sub(" ", words)
    return " ".join(_NO_LETTER.sub(" ", words).split())
