"""Transcripts as text, json, subtitles and Praat's TextGrid. Times are in seconds."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tacoskip.files import write_whole
from tacoskip.recognition.transcript import Symbol, Transcript, Word

TRANSCRIPT_FORMATS = ("text", "json", "srt", "vtt")
ALIGNMENT_FORMATS = ("json", "textgrid")
SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt", "textgrid": ".TextGrid"}
CUE_CHARACTERS, CUE_SECONDS, CUE_PAUSE = 80, 6.0, 0.8


def render(transcript: Transcript, format: str) -> str:
    """Return a transcript in one of the formats, without a line break at its end."""
    if format == "json":
        return json.dumps(to_dict(transcript), ensure_ascii=False)
    if format == "textgrid":
        return textgrid(transcript.words, transcript.seconds).rstrip("\n")
    if format == "text":
        return transcript.text
    return {"srt": srt, "vtt": vtt}[format](transcript.words).rstrip("\n")


def write_files(transcripts: Iterable[Transcript], format: str, folder: Path) -> list[Path]:
    """Write each transcript into a file of the folder, named for its recording; return them."""
    folder.mkdir(exist_ok=True)
    written: list[Path] = []
    for transcript in transcripts:
        stem, number = Path(transcript.source).stem, 1
        path = folder / f"{stem}{SUFFIXES[format]}"
        while path in written:  # recordings of one name from several folders
            number += 1
            path = folder / f"{stem}-{number}{SUFFIXES[format]}"
        write_whole(path, render(transcript, format) + "\n")
        written.append(path)
    return written


def to_dict(transcript: Transcript) -> dict[str, Any]:
    """Return a transcript as plain values: words and their characters with times."""
    return {
        "file": transcript.source,
        "text": transcript.text,
        "seconds": round(transcript.seconds, 3),
        "confidence": round(transcript.confidence, 4),
        "words": [
            _row(word) | {"characters": [_row(symbol) for symbol in word.symbols]}
            for word in transcript.words
        ],
    }


def _row(part: Word | Symbol) -> dict[str, Any]:
    return {
        "text": part.text,
        "start": round(part.start, 3),
        "end": round(part.end, 3),
        "confidence": round(part.confidence, 4),
    }


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


def _cue(cue: Sequence[Word], point: str, markup: bool = False) -> str:
    """Return times and text of a cue; a vocabulary may hold anything, but must not add a cue."""
    text = _one_line(" ".join(word.text for word in cue)).replace("-->", "->")
    if markup:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{_clock(cue[0].start, point)} --> {_clock(cue[-1].end, point)}\n{text}\n"


def textgrid(words: Sequence[Word], seconds: float) -> str:
    """Return a TextGrid (Praat) with the tiers words and characters; gaps are empty intervals."""
    symbols = [symbol for word in words for symbol in word.symbols]
    tiers: list[tuple[str, Sequence[Word | Symbol]]] = [("words", words), ("characters", symbols)]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {seconds:.4f}", "tiers? <exists>", f"size = {len(tiers)}"]
    lines.append("item []:")
    for number, (name, parts) in enumerate(tiers, 1):
        intervals = _intervals(parts, seconds)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"']
        lines += [f'        name = "{name}"', "        xmin = 0", f"        xmax = {seconds:.4f}"]
        lines.append(f"        intervals: size = {len(intervals)}")
        for position, (start, end, text) in enumerate(intervals, 1):
            quoted = _one_line(text).replace('"', '""')
            lines += [f"        intervals [{position}]:", f"            xmin = {start:.4f}"]
            lines += [f"            xmax = {end:.4f}", f'            text = "{quoted}"']
    return "\n".join(lines) + "\n"


def _intervals(parts: Sequence[Word | Symbol], seconds: float) -> list[tuple[float, float, str]]:
    """Cover 0..seconds without gap or overlap."""
    found: list[tuple[float, float, str]] = []
    at = 0.0
    for part in parts:
        start, end = min(max(part.start, at), seconds), min(part.end, seconds)
        if start > at:
            found.append((at, start, ""))
        if end > start:
            found.append((start, end, part.text))
        at = max(at, end)
    if at < seconds:
        found.append((at, seconds, ""))
    return found


def _one_line(text: str) -> str:
    """Return a text on one line: a line break would end it and begin something else."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(1000 * seconds)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
