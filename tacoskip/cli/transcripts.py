"""The work of `tacoskip transcribe` and `align`: which files, in which format, to where."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tacoskip.cli.arguments import require_place
from tacoskip.cli.console import Bar, log
from tacoskip.files import write_whole
from tacoskip.messages import printable

if TYPE_CHECKING:
    from tacoskip.recognition.recognizer import SpeechRecognizer
    from tacoskip.recognition.transcript import Transcript

SUFFIXES = {"text": ".txt", "textgrid": ".TextGrid"}  # of json, srt and vtt their names
LONGEST_STEM = 200  # bytes of a name, of which most file systems take 255


def check_request(kind: str, out: str | None, files: int = 1) -> None:
    """Raise ValueError for subtitles of several files on standard output, or no folder in `out`."""
    if out is not None:
        require_place(Path(out))
    if kind in ("srt", "vtt") and files > 1 and out is None:
        raise ValueError(f"expected -o FOLDER with --format {kind} and {files} files, got none")


def transcribe(
    recognizer: "SpeechRecognizer", paths: list[str], kind: str, out: str | None
) -> tuple[str, list[str]]:
    """Transcribe files; return what goes to standard output, and the errors, a line a file.

    out: a folder for one file a recording instead, written as soon as it is transcribed.
    """
    errors, lines, seconds = [], list[str](), 0.0
    began, written = time.monotonic(), set[Path]()
    with Bar("transcribe") as bar:
        for number, one in enumerate(recognizer.transcribe_files(paths), 1):
            bar.show(number / len(paths), printable(one.source))
            seconds += one.seconds
            if one.error:
                errors.append(one.error)
            elif out is not None:
                write(one, kind, Path(out), written)
            elif kind == "text" and len(paths) > 1:
                lines.append(f"{printable(one.source)}: {one.text}")
            else:
                lines.append(one.render(kind))
    if len(errors) < len(paths):
        log(f"{seconds:.1f} s of speech in {time.monotonic() - began:.1f} s")
    if kind == "json" and out is None:
        return f'{{"transcripts": [{", ".join(lines)}]}}', errors
    return "\n".join(lines), errors


def write(transcript: "Transcript", kind: str, folder: Path, written: set[Path]) -> None:
    """Write a transcript into a file of the folder that is named for its recording.

    written: files of this request, which recordings of the same name in other folders get a number
    beside.
    """
    folder.mkdir(exist_ok=True)
    stem, number = os.fsdecode(os.fsencode(Path(transcript.source).stem)[:LONGEST_STEM]), 1
    suffix = SUFFIXES.get(kind, f".{kind}")
    path = folder / f"{stem}{suffix}"
    while path in written:
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    write_whole(path, transcript.render(kind) + "\n")
    written.add(path)
    log(f"wrote {path}")
