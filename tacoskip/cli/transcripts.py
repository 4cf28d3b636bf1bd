"""The work of `tacoskip transcribe` and `align`: which files, in which format, to where."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tacoskip.cli.console import Bar, log

if TYPE_CHECKING:
    from tacoskip.recognition.recognizer import SpeechRecognizer
    from tacoskip.recognition.transcript import Transcript


def check_request(kind: str, out: str | None, files: int = 1) -> None:
    """Raise ValueError for subtitles of several files on standard output, or no folder in `out`."""
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
    """Transcribe files; return what goes to standard output, and the errors, a line a file.

    out: a folder that takes a file for each recording instead.
    """
    from tacoskip.recognition.formats import render, to_dict

    errors, transcripts = [], list["Transcript"]()
    began = time.monotonic()
    with Bar("transcribe") as bar:
        for number, transcript in enumerate(recognizer.transcribe_files(paths), 1):
            bar.show(number / len(paths), transcript.source)
            if transcript.error:
                errors.append(transcript.error)
            else:
                transcripts.append(transcript)
    spent = time.monotonic() - began
    log(f"{sum(one.seconds for one in transcripts):.1f} s of speech in {spent:.1f} s")
    if out is not None:
        write(transcripts, kind, out)
        return "", errors
    if kind == "json":
        found = {"transcripts": [to_dict(one) for one in transcripts]}
        return json.dumps(found, ensure_ascii=False), errors
    if kind == "text" and len(paths) > 1:
        return "\n".join(f"{one.source}: {one.text}" for one in transcripts), errors
    return "\n".join(render(one, kind) for one in transcripts), errors


def write(transcripts: Iterable["Transcript"], kind: str, folder: str) -> None:
    """Write a file for each transcript into the folder and name it."""
    from tacoskip.recognition.formats import write_files

    for path in write_files(transcripts, kind, Path(folder)):
        log(f"wrote {path}")
