"""Settings of the text front end."""

from dataclasses import dataclass


@dataclass
class TextSettings:
    """`symbols` is "characters" or "phonemes" (espeak-ng, with the `espeak` extra); `voice` its language."""

    symbols: str = "characters"
    voice: str = "en-us"
