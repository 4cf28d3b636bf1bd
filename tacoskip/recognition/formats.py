"""Transcripts as text, json, subtitles and Praat's TextGrid. Times are in seconds."""

from collections.abc import Iterable, Sequence
from typing import Any

from tacoskip.recognition.decode import Symbol, Word

FORMATS = ("text", "json", "srt", "vtt")
CUE_CHARACTERS, CUE_SECONDS, CUE_PAUSE = 80, 6.0, 0.8


def word_rows(words: Iterable[Word]) -> list[dict[str, Any]]:
    """Return words and their characters as plain values."""
    return [_row(word) | {"characters": [_row(s) for s in word.symbols]} for word in words]


def _row(heard: Word | Symbol) -> dict[str, Any]:
    return {
        "text": heard.text,
        "start": round(heard.start, 3),
        "end": round(heard.end, 3),
        "confidence": round(heard.confidence, 4),
    }


def cues(words: Sequence[Word]) -> list[list[Word]]:
    """Gather words into subtitles: no longer than a line and a breath, ended by a pause."""
    found: list[list[Word]] = []
    for word in words:
        if not _plain(word.text):  # an empty line would end its cue
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
    return "\n".join(
        f"{number}\n{_clock(cue[0].start, ',')} --> {_clock(cue[-1].end, ',')}\n{_line(cue)}\n"
        for number, cue in enumerate(cues(words), 1)
    )


def vtt(words: Sequence[Word]) -> str:
    """Return words as WebVTT subtitles."""
    blocks = [
        f"{_clock(cue[0].start, '.')} --> {_clock(cue[-1].end, '.')}\n{_marked(_line(cue))}\n"
        for cue in cues(words)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _marked(text: str) -> str:
    """Write what WebVTT would read as markup as its entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def textgrid(words: Sequence[Word], seconds: float) -> str:
    """Return a TextGrid (Praat) with the tiers words and characters; gaps are empty intervals."""
    symbols = [symbol for word in words for symbol in word.symbols]
    tiers: list[tuple[str, Sequence[Word | Symbol]]] = [("words", words), ("characters", symbols)]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {seconds:.4f}", "tiers? <exists>", f"size = {len(tiers)}"]
    lines.append("item []:")
    for number, (name, heard) in enumerate(tiers, 1):
        intervals = _intervals(heard, seconds)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"']
        lines += [f'        name = "{name}"', "        xmin = 0", f"        xmax = {seconds:.4f}"]
        lines.append(f"        intervals: size = {len(intervals)}")
        for place, (start, end, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{place}]:", f"            xmin = {start:.4f}"]
            quoted = _plain(text).replace('"', '""')
            lines += [f"            xmax = {end:.4f}", f'            text = "{quoted}"']
    return "\n".join(lines) + "\n"


def _intervals(heard: Sequence[Word | Symbol], seconds: float) -> list[tuple[float, float, str]]:
    """Cover 0..seconds without gap or overlap."""
    found: list[tuple[float, float, str]] = []
    at = 0.0
    for one in heard:
        start, end = min(max(one.start, at), seconds), min(one.end, seconds)
        if start > at:
            found.append((at, start, ""))
        if end > start:
            found.append((start, end, one.text))
        at = max(at, end)
    if at < seconds:
        found.append((at, seconds, ""))
    return found


def _line(cue: Sequence[Word]) -> str:
    """The words of a cue; a stranger's units may hold anything, but no cue of their own."""
    return _plain(" ".join(word.text for word in cue)).replace("-->", "->")


def _plain(text: str) -> str:
    """One line: a line break would end the text and begin something else."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(1000 * seconds)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
