"""The text of a clip: as spoken words, and what of it has no symbol."""

from tacoskip.data.checks import Rejected
from tacoskip.data.utterance import Utterance
from tacoskip.text import Tokenizer


def spoken_text(utterance: Utterance, tokenizer: Tokenizer) -> tuple[str, dict[str, int]]:
    """Return the text as spoken words and, counted, the characters of it that have no symbol.

    The corpus' own normalised text is preferred to the raw one. Either is read as `synthesize`
    would read it, so that a voice learns from the words it will be given: LJSpeech's column leaves
    "Mr." and "FBI" as they are. Raises Rejected("no_speakable_text").
    """
    written = " ".join((utterance.normalized or "").split()) or utterance.text
    try:
        return tokenizer.read(written)
    except ValueError as error:
        raise Rejected("no_speakable_text", str(error)) from error
