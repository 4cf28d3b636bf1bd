"""The text of a clip: as spoken words, and what of it has no symbol."""

import warnings

from tacoskip.data.checks import Rejected
from tacoskip.data.utterance import Utterance
from tacoskip.text import DroppedCharacters, Tokenizer, dropped_characters, normalize


def spoken_text(utterance: Utterance, tokenizer: Tokenizer) -> tuple[str, dict[str, int]]:
    """Return the text as spoken words and, counted, the characters of it that have no symbol.

    The corpus' own normalised text is taken as it is unless characters would be lost from it.
    Raises Rejected("no_speakable_text"). Not for threads: it listens to `warnings`.
    """
    supplied = " ".join((utterance.normalized or "").split())
    if supplied and not _loses(supplied, tokenizer):
        return supplied, {}
    written = supplied or utterance.text
    text = normalize(written)
    return text, dropped_characters(written) if _loses(text, tokenizer) else {}


def _loses(text: str, tokenizer: Tokenizer) -> bool:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tokenizer.encode(text, normalized=True)
        except ValueError as error:
            raise Rejected("no_speakable_text", str(error)) from error
    return any(issubclass(warning.category, DroppedCharacters) for warning in caught)
