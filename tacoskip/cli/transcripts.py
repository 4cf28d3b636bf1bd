"""The work of `tacoskip transcribe` and `align`: which files, in which format, to where."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tacoskip.cli.console import Bar, log
from tacoskip.files import write_whole

if TYPE_CHECKING:
    from tacoskip.recognition.recognizer import SpeechRecognizer
    from tacoskip.recognition.transcript import Transcript

SUFFIXES = {"text": ".txt", "textgrid": ".TextGrid"}  # of json, srt and vtt their names


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
        found = {"transcripts": [one.to_dict() for one in transcripts]}
        return json.dumps(found, ensure_ascii=False), errors
    if kind == "text" and len(paths) > 1:
        return "\n".join(f"{one.source}: {one.text}" for one in transcripts), errors
    return "\n".join(one.render(kind) for one in transcripts), errors


def write(transcripts: Iterable["Transcript"], kind: str, folder: str) -> None:
    """Write a file for each transcript into the folder, named for its recording; log its name."""
    Path(folder).mkdir(exist_ok=True)
    written: list[Path] = []
    for transcript in transcripts:
        stem, suffix, number = Path(transcript.source).stem, SUFFIXES.get(kind, f".{kind}"), 1
        path = Path(folder) / f"{stem}{suffix}"
        while path in written:  # recordings of one name from several folders
            number += 1
            path = Path(folder) / f"{stem}-{number}{suffix}"
        write_whole(path, transcript.render(kind) + "\n")
        written.append(path)
        log(f"wrote {path}")
