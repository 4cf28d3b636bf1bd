"""What was recognized in a recording: words and characters with times and confidences."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tacoskip.recognition.decode import Token
from tacoskip.timed_words import Word, row, srt, textgrid, vtt


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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: words and their characters with times."""
        return {
            "file": self.source,
            "text": self.text,
            "seconds": round(self.seconds, 3),
            "confidence": round(self.confidence, 4),
            "words": [
                row(word) | {"characters": [row(c) for c in word.characters]} for word in self.words
            ],
        }

    def render(self, format: str) -> str:
        """Return it as text, json, srt, vtt or textgrid, without a line break at its end."""
        if format == "json":
            return json.dumps(self.to_dict(), ensure_ascii=False)
        if format == "textgrid":
            return textgrid(self.words, self.seconds).rstrip("\n")
        if format == "text":
            return self.text
        return {"srt": srt, "vtt": vtt}[format](self.words).rstrip("\n")


def words_of(
    tokens: Sequence[Token], symbols: Sequence[str], frame_seconds: float, offset: float = 0.0
) -> list[Word]:
    """Gather tokens into words at their spaces.

    symbols: the text of each token, one or more characters; a space in it begins a word. offset:
    seconds at the first frame. Characters of one token share its time evenly.
    """
    words: list[list[Word]] = [[]]
    for token in tokens:
        text = symbols[token.index]
        share = (token.last + 1 - token.first) * frame_seconds / max(len(text), 1)
        for position, character in enumerate(text):
            at = offset + token.first * frame_seconds + position * share
            if character == " ":
                words.append([])
            else:
                chance = math.exp(min(token.score, 0.0))
                words[-1].append(Word(character, at, at + share, chance))
    return [
        Word("".join(c.text for c in word), word[0].start, word[-1].end, confidence(word), (*word,))
        for word in words
        if word
    ]


def confidence(parts: Iterable[Word]) -> float:
    """Return the geometric mean of probabilities; 0 without any."""
    logs = [math.log(max(part.confidence or 0.0, 1e-30)) for part in parts]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0
