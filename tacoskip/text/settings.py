"""Settings of the text front end."""

from dataclasses import dataclass

from tacoskip.settings import setting


@dataclass
class TextSettings:
    """How a text becomes symbols; travels with the weights."""

    symbols: str = setting(
        "characters",
        "What a network reads: phonemes need espeak-ng (the extra `espeak`).",
        choices=("characters", "phonemes"),
    )
    voice: str = setting(
        "en-us",
        "The espeak voice, and so the language; numbers are spelled out for voices in 'en'.",
    )
