"""Text into symbols: normalising English, splitting sentences, characters or phonemes."""

from tacoskip.text.normalize import normalize
from tacoskip.text.sentences import split_sentences
from tacoskip.text.settings import TextSettings
from tacoskip.text.tokenizer import DroppedCharacters, Tokenizer

__all__ = [
    "DroppedCharacters",
    "TextSettings",
    "Tokenizer",
    "normalize",
    "split_sentences",
]
