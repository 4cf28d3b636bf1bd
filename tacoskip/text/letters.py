"""What a recogniser writes: lower-case letters, apostrophes inside words, single spaces."""

import re
from collections.abc import Iterable

from tacoskip.text.folding import clean, fold
from tacoskip.text.normalize import normalize

BLANK = "_"  # CTC's "nothing new", never part of a text
LETTERS = (BLANK, " ", "'", *"abcdefghijklmnopqrstuvwxyz")

_LONE_APOSTROPHE = re.compile("(?<![a-z])'|'(?![a-z])")
_NO_LETTER = re.compile("[^a-z']+")


def plain_words(text: str, normalized: bool = False) -> str:
    """Return the words of `text` in LETTERS: what is heard, without case and punctuation.

    normalized: `text` is in words already ("ten", not "10").
    """
    words = fold(clean(text) if normalized else normalize(text)).lower()
    words = _LONE_APOSTROPHE.sub(" ", words)
    return " ".join(_NO_LETTER.sub(" ", words).split())


class Letters:
    """A recogniser's units, one a letter; index 0 is CTC's blank. There is no model behind them."""

    model = ""

    def __init__(self, symbols: tuple[str, ...] = LETTERS) -> None:
        self.symbols = symbols
        self._ids = {symbol: index for index, symbol in enumerate(symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str, normalized: bool = False) -> list[int]:
        """Return the units of a text; none where it holds no letters."""
        return [self._ids[c] for c in plain_words(text, normalized)]

    def spell(self, word: str) -> list[int]:
        """Return the units of one word as it stands in a text, the space behind it included."""
        return [*self.encode(word, normalized=True), self._ids[" "]]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of units, the blank left out."""
        return "".join(self.symbols[i] for i in ids if i)
