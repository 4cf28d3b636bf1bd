"""The work of `tacoskip transcribe` and `align`: which files, in which format, to where."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacoskip.cli.console import Bar, say
from tacoskip.messages import nearest

if TYPE_CHECKING:
    from tacoskip.recognition.recognizer import SpeechRecognizer, Transcript

TRANSCRIPT_FORMATS = ("text", "json", "srt", "vtt")
ALIGNMENT_FORMATS = ("json", "textgrid")
SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt", "textgrid": ".TextGrid"}


def check_request(kind: str, known: tuple[str, ...], out: str | None, files: int = 1) -> None:
    """Raise ValueError for a format nobody has, or subtitles of several files into one place."""
    if kind not in known:
        raise ValueError(f"unknown format '{kind}'{nearest(kind, known)} ({', '.join(known)})")
    if out is not None and not Path(out).is_dir():
        if Path(out).exists():
            raise ValueError(f"expected a folder for -o, got the file '{out}'")
        if not Path(out).absolute().parent.is_dir():
            raise ValueError(f"no folder '{Path(out).parent}' to make -o {out} in")
    if kind in ("srt", "vtt") and files > 1 and out is None:
        raise ValueError(f"expected -o FOLDER with --format {kind} and {files} files, got none")


def transcribe(
    recognizer: "SpeechRecognizer", paths: list[str], kind: str, out: str | None
) -> tuple[str, list[str]]:
    """Transcribe files; returns what goes to standard output, and the errors, a line a file.

    out: a folder that takes a file for each recording instead.
    """
    errors, heard = [], list["Transcript"]()
    seconds, began = 0.0, time.monotonic()
    with Bar("transcribe") as bar:
        for number, transcript in enumerate(recognizer.transcribe_files(paths), 1):
            bar.show(number / len(paths), transcript.source)
            if transcript.error:
                errors.append(transcript.error)
                continue
            heard.append(transcript)
            seconds += transcript.seconds
    spent = time.monotonic() - began
    say(f"{seconds:.1f} s of speech in {spent:.1f} s")
    if out is not None:
        write(heard, kind, Path(out))
        return "", errors
    if kind == "json":
        return json.dumps({"transcripts": [plain(t) for t in heard]}, ensure_ascii=False), errors
    if kind == "text" and len(paths) > 1:
        return "\n".join(f"{t.source}: {t.text}" for t in heard), errors
    return "\n".join(render(t, kind) for t in heard), errors


def plain(transcript: "Transcript") -> dict[str, Any]:
    """Return a transcript as plain values; times in seconds."""
    from tacoskip.recognition.formats import word_rows

    return {
        "file": transcript.source,
        "text": transcript.text,
        "seconds": round(transcript.seconds, 3),
        "confidence": round(transcript.confidence, 4),
        "words": word_rows(transcript.words),
    }


def render(transcript: "Transcript", kind: str) -> str:
    """Return a transcript in one of the formats."""
    from tacoskip.recognition import formats

    if kind == "json":
        return json.dumps(plain(transcript), ensure_ascii=False)
    if kind == "textgrid":
        return formats.textgrid(transcript.words, transcript.seconds).rstrip("\n")
    if kind == "text":
        return transcript.text
    return {"srt": formats.srt, "vtt": formats.vtt}[kind](transcript.words).rstrip("\n")


def write(transcripts: Iterable["Transcript"], kind: str, folder: Path) -> None:
    """Write each transcript into a file of the folder, named for its recording."""
    from tacoskip.audio.io import write_whole

    folder.mkdir(exist_ok=True)
    taken: set[Path] = set()
    for transcript in transcripts:
        stem, number = Path(transcript.source).stem, 1
        path = folder / f"{stem}{SUFFIXES[kind]}"
        while path in taken:  # files of one name from several folders
            number += 1
            path = folder / f"{stem}-{number}{SUFFIXES[kind]}"
        taken.add(path)
        write_whole(path, (render(transcript, kind) + "\n").encode())
        say(f"wrote {path}")
