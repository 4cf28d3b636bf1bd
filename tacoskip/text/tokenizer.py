"""From text to the numbers a network reads, and back."""

import re
import warnings
from collections import Counter
from collections.abc import Iterable

from tacoskip.text.folding import clean, fold, fold_punctuation
from tacoskip.text.normalize import normalize
from tacoskip.text.phonemes import phonemize
from tacoskip.text.settings import TextSettings
from tacoskip.text.symbols import CHARACTERS, END, PADDING, PHONEME_MARK, PHONEMES, SAME_AS

_TABLES = {"characters": CHARACTERS, "phonemes": PHONEMES}
_END_ID = 1


class DroppedCharacters(UserWarning):
    """Characters of a text that a voice has no symbol for."""


class Tokenizer:
    """The symbols of a voice and the way from text to them; both follow from the settings alone."""

    def __init__(self, settings: TextSettings | None = None) -> None:
        settings = settings or TextSettings()
        if settings.symbols not in _TABLES:
            raise ValueError(f"expected symbols {' or '.join(_TABLES)}, got {settings.symbols!r}")
        self.settings = settings
        self.symbols: list[str] = list(_TABLES[settings.symbols])
        # The padding and end symbols are no characters: a "_" in a text must not become padding.
        self._ids = {s: i for i, s in enumerate(self.symbols) if s not in (PADDING, END)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str, normalized: bool = False) -> list[int]:
        """The symbols of `text`, the end symbol last.

        normalized: `text` is in words already; it is only folded or phonemized. Warns with
        DroppedCharacters; raises ValueError where nothing that can be spoken is left.
        """
        ids, _, lost = self._encode([text], normalized)
        _warn(lost)
        return ids[0]

    def encode_many(self, texts: Iterable[str], normalized: bool = False) -> list[list[int]]:
        """`encode` of each text, with one pass through espeak and one warning for all."""
        ids, _, lost = self._encode(list(texts), normalized)
        _warn(lost)
        return ids

    def spoken(self, text: str) -> str:
        """The words `encode` reads: normalize(text) for an English voice, else tidied only."""
        return normalize(text) if self.settings.voice.startswith("en") else clean(text)

    def read(self, text: str) -> tuple[str, dict[str, int]]:
        """`spoken(text)`, and what `encode` would drop of it and warn of: character to count.

        Raises as `encode` does.
        """
        _, (words,), lost = self._encode([text], normalized=False)
        return words, dict(lost)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, without padding and end; for phonemes, the IPA."""
        return "".join(self.symbols[i] for i in ids if self.symbols[i] not in (PADDING, END))

    def _encode(
        self, texts: list[str], normalized: bool
    ) -> tuple[list[list[int]], list[str], Counter[str]]:
        """The symbols of texts, their words, and what was dropped of all."""
        words = [clean(text) if normalized else self.spoken(text) for text in texts]
        lines, lost = self._lines(words)
        encoded = []
        for text, line in zip(texts, lines, strict=True):
            unknown = set(line).difference(self._ids)
            kept = " ".join("".join(c for c in line if c not in unknown).split())
            if not any(c.isalpha() for c in kept):
                excerpt = text if len(text) <= 60 else text[:57] + "..."
                raise ValueError(f"nothing to speak in {excerpt!r}")
            lost.update(c for c in line if c in unknown)
            encoded.append([*(self._ids[c] for c in kept), _END_ID])
        return encoded, words, lost

    def _lines(self, words: list[str]) -> tuple[list[str], Counter[str]]:
        """Each text in the characters of the table, or near to them; what espeak left out."""
        if self.settings.symbols == "characters" and (mark := PHONEME_MARK.search(" ".join(words))):
            raise ValueError(f"{mark[0]}: this voice reads characters, not phonemes: respell it")
        lines = [_BRACKETS.sub(lambda m: SAME_AS.get(m[0], m[0]), text) for text in words]
        if self.settings.symbols == "phonemes":
            return phonemize([fold_punctuation(line) for line in lines], self.settings.voice)
        return [fold(line).lower() for line in lines], Counter()


_BRACKETS = re.compile(rf"{PHONEME_MARK.pattern}|[{re.escape(''.join(SAME_AS))}]")


def _warn(lost: Counter[str]) -> None:
    if not lost:
        return
    total = sum(lost.values())
    named = ", ".join(f"{c!r} ({n})" for c, n in lost.most_common(20))
    more = f" and {len(lost) - 20} others" if len(lost) > 20 else ""
    plural = "character" if total == 1 else "characters"
    warnings.warn(
        f"dropped {total} {plural} the voice has no symbol for: {named}{more}",
        DroppedCharacters,
        stacklevel=3,
    )
