"""Phonemes from espeak-ng (pip install 'tacoskip[espeak]'), in IPA with stress.

Punctuation never reaches espeak: it is cut out before and put back after, so that every mark keeps
its place and a text of a batch cannot move into another.
"""

import logging
import re
import unicodedata
from collections import Counter
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tacoskip.messages import nearest
from tacoskip.text.symbols import PHONEME_MARK

if TYPE_CHECKING:
    from phonemizer.backend import EspeakBackend

# Stops, brackets and quotes; not a stop inside a number, nor a hyphen or apostrophe inside a word.
# Phonemes in [[...]] are cut out as these are.
_MARKS = re.compile(
    rf"(\s*(?:{PHONEME_MARK.pattern}|[;!?\"()]|[.,:](?![0-9])|(?<![0-9])[.,:]|-(?!\w)|(?<!\w)-|"
    r"'(?!\w)|(?<!\w)'(?=\s|$))+\s*)"
)
_LETTERS = re.compile(r"(?<![\w'])[A-Z](?: [A-Z](?!\w)){1,30}")
_NO_MARK = "\u2028"  # phonemizer wants a mark to look for; clean text has no line separator


def phonemize(texts: list[str], voice: str) -> tuple[list[str], Counter[str]]:
    """The phonemes of each text, decomposed (NFD), and the characters espeak has no sound for.

    Raises ValueError where the `espeak` extra is missing or has no such voice.
    """
    espeak = backend(voice)
    unread = {
        c
        for c in set(PHONEME_MARK.sub("", "".join(texts)))
        if not (c.isalnum() or c.isspace() or _spoken(c, voice))
    }
    lost = Counter(c for text in texts for c in text if c in unread)
    table = {ord(c): " " for c in unread}
    split = [_MARKS.split(text.translate(table).strip()) for text in texts]
    # Every second part is punctuation.
    chunks = [chunk for parts in split for chunk in parts[::2]]
    # espeak reads the first letter of "A M" as the article, but spells A.M.
    chunks = [_LETTERS.sub(lambda m: m[0].replace(" ", "."), chunk) for chunk in chunks]
    spoken = iter(espeak.phonemize(chunks, strip=True))
    lines = []
    for parts in split:
        parts[::2] = [next(spoken) for _ in parts[::2]]
        line = PHONEME_MARK.sub(lambda m: m[0][2:-2], "".join(parts))
        lines.append(unicodedata.normalize("NFD", line))
    return lines, lost


def available() -> bool:
    """Whether the `espeak` extra is installed."""
    return bool(find_spec("espeakng_loader") and find_spec("phonemizer"))


@cache
def _spoken(character: str, voice: str) -> bool:
    """Whether a character that is no letter, digit or space is punctuation or has a sound."""
    if _MARKS.fullmatch(character) or character in "'-,.:" or unicodedata.combining(character):
        return True
    # A zero would end the text for espeak, half a surrogate pair cannot be passed to it.
    if unicodedata.category(character) in ("Cc", "Cs", "Co", "Cn"):
        return False
    return bool(backend(voice).phonemize([character], strip=True)[0].strip())


@cache
def backend(voice: str) -> "EspeakBackend":
    """Espeak for one voice, cached: starting it needs half a second."""
    try:
        import espeakng_loader
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper
    except ImportError as error:
        raise ValueError(
            f"phonemes need espeak-ng, which is not installed ({error.name}): "
            "pip install 'tacoskip[espeak]', or take text.symbols=characters"
        ) from None
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    voices = list(EspeakBackend.supported_languages())
    if voice not in voices:
        hint = nearest(voice, voices, cutoff=0.4) or f"; it has {', '.join(voices)}"
        raise ValueError(f"espeak has no voice {voice!r}{hint}")
    logger = logging.getLogger("tacoskip.espeak")
    logger.setLevel(logging.ERROR)
    return EspeakBackend(
        voice,
        punctuation_marks=_NO_MARK,
        with_stress=True,
        language_switch="remove-flags",
        logger=logger,
    )
