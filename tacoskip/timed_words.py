"""Words with times (seconds), as rows for json, as subtitles and as TextGrid of Praat."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

CUE_CHARACTERS, CUE_SECONDS, CUE_PAUSE = 80, 6.0, 0.8


@dataclass(frozen=True)
class Word:
    """A word or a character: its times in seconds; of a recognized one its probability, of a word
    its characters.
    """

    text: str
    start: float
    end: float
    confidence: float | None = None
    characters: tuple["Word", ...] = field(repr=False, default=())


def row(word: Word) -> dict[str, Any]:
    """Return a word as plain values."""
    times = {"text": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
    return times if word.confidence is None else times | {"confidence": round(word.confidence, 4)}


def cues(words: Sequence[Word]) -> list[list[Word]]:
    """Gather words into subtitles of at most one line and a few seconds, ended by a pause."""
    found: list[list[Word]] = []
    for word in words:
        if not _one_line(word.text):  # an empty line would end its cue
            continue
        cue = found[-1] if found else []
        full = cue and (
            sum(len(w.text) + 1 for w in cue) + len(word.text) > CUE_CHARACTERS
            or word.end - cue[0].start > CUE_SECONDS
            or word.start - cue[-1].end > CUE_PAUSE
        )
        if not cue or full:
            found.append([])
        found[-1].append(word)
    return found


def srt(words: Sequence[Word]) -> str:
    """Return words as SubRip subtitles."""
    return "\n".join(f"{n}\n{_cue(cue, ',')}" for n, cue in enumerate(cues(words), 1))


def vtt(words: Sequence[Word]) -> str:
    """Return words as WebVTT subtitles."""
    return "\n".join(["WEBVTT\n", *(_cue(cue, ".", markup=True) for cue in cues(words))])


def textgrid(words: Sequence[Word], seconds: float) -> str:
    """Return a TextGrid in Praat's short form, tiers words and characters, gaps as empty text."""
    tiers = {"words": words, "characters": [c for word in words for c in word.characters]}
    span = ["0", f"{seconds:.4f}"]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", *span, "<exists>"]
    lines.append(str(len(tiers)))
    for name, parts in tiers.items():
        intervals = _intervals(parts, seconds)
        lines += ['"IntervalTier"', f'"{name}"', *span, str(len(intervals))]
        for start, end, text in intervals:
            quoted = _one_line(text).replace('"', '""')
            lines += [f"{start:.4f}", f"{end:.4f}", f'"{quoted}"']
    return "\n".join(lines) + "\n"


def _cue(cue: Sequence[Word], point: str, markup: bool = False) -> str:
    """Return times and text of a cue; a vocabulary may hold anything, but must not add a cue."""
    text = _one_line(" ".join(word.text for word in cue)).replace("-->", "->")
    if markup:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{_clock(cue[0].start, point)} --> {_clock(cue[-1].end, point)}\n{text}\n"


def _intervals(parts: Sequence[Word], seconds: float) -> list[tuple[float, float, str]]:
    """Cover 0..seconds without gap or overlap."""
    found: list[tuple[float, float, str]] = []
    at = 0.0
    for part in [*parts, Word("", seconds, seconds)]:
        start, end = min(max(part.start, at), seconds), min(part.end, seconds)
        if start > at:
            found.append((at, start, ""))
        if end > start:
            found.append((start, end, part.text))
        at = max(at, end, start)
    return found


def _one_line(text: str) -> str:
    """Return a text on one line: a line break would end it and begin something else."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _clock(seconds: float, point: str) -> str:
    hours, milliseconds = divmod(round(1000 * seconds), 3_600_000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"
