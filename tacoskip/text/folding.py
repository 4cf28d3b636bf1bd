"""Unicode to the characters the rules are written in: ASCII, and the signs that are spoken.

What cannot be folded (an emoji, a control character) stays in the text, so that the tokenizer can
name it when it drops it. Only what nobody could see is removed here: accents and other combining
marks of folded letters, zero-width and formatting characters.
"""

import re
import unicodedata

# Signs with a spoken form of their own; tacoskip.text.marks and the number rules read them.
SPOKEN = frozenset("£€¥₹₽₩₿¢°§©×÷±≈≤≥≠√∞′″²³¹⁰⁴⁵⁶⁷⁸⁹⁻‰")

_TABLE = {
    "´": "'", "«": '"', "»": '"', "‹": "'", "›": "'", "−": "-", "—": " -- ", "―": " -- ",
    "·": " ", "⁄": "/", "∕": "÷", "∗": "×", "⋅": "×", "∙": "×", "≦": "≤", "≧": "≥",
    "№": "No. ", "℃": "°C", "℉": "°F",
}  # fmt: skip

_MICRO = re.compile("(?<=[0-9]) ?[\u00b5\u03bc](?=[a-zA-Z])")
_OTHER_GREEK = re.compile("[\u0370-\u03bb\u03bd-\u03bf\u03c1-\u03ff]")
_MINUS = re.compile("(?<=[0-9]) ?\u2212 ?(?=[0-9])")  # not a range
_OHM = re.compile("(?<=[0-9]) ?([kM]?)[\u03a9\u2126]")


def clean(text: str) -> str:
    """Compose accents (NFC), turn every run of white space into one space, strip the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def fold(text: str) -> str:
    """Write `text` in ASCII and `SPOKEN` signs wherever a character has such a form."""
    if text.isascii():
        return text
    text = _MINUS.sub(" minus ", text)
    # In a unit these two are signs; in Greek they are letters.
    if not _OTHER_GREEK.search(text):
        text = text.replace("\u03c0", " pi ")
    text = _MICRO.sub(" u", _OHM.sub(r" \1ohm", text))
    table = {ord(c): _fold_character(c) for c in set(text) if not c.isascii()}
    return clean(text.translate(table))


def fold_punctuation(text: str) -> str:
    """Fold quotes, dashes, stops and brackets alone; letters of any script stay."""
    marks = {c for c in set(text) if not c.isascii() and unicodedata.category(c)[0] == "P"}
    return clean(text.translate({ord(c): _fold_character(c) for c in marks}))


def _fold_character(character: str) -> str:
    from anyascii import anyascii

    if character in SPOKEN:
        return character
    if character in _TABLE:
        return _TABLE[character]
    if unicodedata.decomposition(character).startswith("<fraction>"):
        return " " + unicodedata.normalize("NFKC", character).replace("⁄", "/")
    category = unicodedata.category(character)
    if category == "Cf" or category[0] == "M":
        # Vowel signs of Indic scripts are marks too; anyascii writes those and drops accents.
        return anyascii(character)
    if category[0] in "LN":
        return anyascii(character) or character
    if character in "™®℠":
        return character
    # A sign in another dress, such as the full-width ones; an emoji has no such form.
    plain = unicodedata.normalize("NFKC", character)
    if plain.isascii() and plain.isprintable():
        return plain
    if category[0] == "P" and character not in "¿¡":
        plain = anyascii(character)
        if plain and all(c in ".,;:!?'\"()[]{}-/ " for c in plain):
            return plain
    return character
