"""Which full stops end a sentence, and which belong to an abbreviation."""

from tacoskip.text.words import STARTERS

_CLOSERS = "\"')]}"


def ends_sentence(text: str, end: int) -> bool:
    """Whether a sentence ends at `end`, behind a stop: the text does, or a new one begins."""
    while end < len(text) and text[end] in _CLOSERS:
        end += 1
    if end >= len(text):
        return True
    if text[end] != " ":
        return False
    start = end + 1
    while start < len(text) and text[start] in "\"'([":
        start += 1
    word_end = start
    while word_end < min(len(text), start + 20) and text[word_end].isalpha():
        word_end += 1
    return text[start:word_end] in STARTERS
