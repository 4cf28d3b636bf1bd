"""What was recognized in a recording: words and characters with times and confidences."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tacoskip.recognition.decode import Token


@dataclass(frozen=True)
class Symbol:
    """A character: its times in seconds, its probability."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Word:
    """A word: times in seconds; confidence, the geometric mean of its characters'."""

    text: str
    start: float
    end: float
    confidence: float
    symbols: tuple[Symbol, ...] = field(repr=False, default=())


@dataclass
class Transcript:
    """The text of a recording of `seconds`, and its words with times.

    error: why the file could not be read, in one line; then there are no words.
    """

    source: str
    text: str
    seconds: float
    words: list[Word] = field(default_factory=list)
    error: str = ""

    @property
    def confidence(self) -> float:
        """Geometric mean of the words' confidences; 0 without words."""
        return confidence(self.words)


def words_of(
    tokens: Sequence[Token], symbols: Sequence[str], frame_seconds: float, offset: float = 0.0
) -> list[Word]:
    """Gather tokens into words at their spaces.

    symbols: the text of each token, one or more characters; a space in it begins a word. offset:
    seconds at the first frame. Characters of one token share its time evenly.
    """
    words: list[list[Symbol]] = [[]]
    for token in tokens:
        text = symbols[token.index]
        start, end = token.first * frame_seconds, (token.last + 1) * frame_seconds
        share = (end - start) / max(len(text), 1)
        probability = math.exp(min(token.score, 0.0))
        for position, character in enumerate(text):
            if character == " ":
                words.append([])
                continue
            at = offset + start + position * share
            words[-1].append(Symbol(character, at, at + share, probability))
    return [
        Word(
            "".join(symbol.text for symbol in word),
            word[0].start,
            word[-1].end,
            confidence(word),
            tuple(word),
        )
        for word in words
        if word
    ]


def confidence(parts: Iterable[Symbol | Word]) -> float:
    """Return the geometric mean of probabilities; 0 without any."""
    logs = [math.log(max(part.confidence, 1e-30)) for part in parts]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0
