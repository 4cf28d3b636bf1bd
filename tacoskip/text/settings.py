"""Settings of the text front end."""

from dataclasses import dataclass


@dataclass
class TextSettings:
    """What a text becomes before a network reads it; travels with the weights.

    symbols: "characters", or "phonemes" (espeak-ng, with the `espeak` extra). voice: the espeak
    voice, which is also the language: normalize applies to voices that begin with "en".
    """

    symbols: str = "characters"
    voice: str = "en-us"
