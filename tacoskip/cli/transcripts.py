"""`transcribe`, `align` and `ngram`: from recordings to text, and a language model for it."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tacoskip.cli.arguments import (
    Beam,
    Device,
    LanguageModel,
    Run,
    require_place,
    searching_recognizer,
)
from tacoskip.cli.console import WRONG, Bar, Result, command, emit, log, print_error
from tacoskip.files import write_whole
from tacoskip.messages import printable

if TYPE_CHECKING:
    from tacoskip.recognition.transcript import Transcript

SUFFIXES = {"text": ".txt", "textgrid": ".TextGrid"}  # of json, srt and vtt their names
LONGEST_STEM = 200  # bytes of a name, of which most file systems take 255


@command
def transcribe(
    run: Run,
    audio: Annotated[list[str], typer.Argument(metavar="AUDIO", help="Files of any length.")],
    format: Annotated[
        Literal["text", "json", "srt", "vtt"], typer.Option(help="What to write.")
    ] = "text",
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A folder: one file for each AUDIO.")
    ] = None,
    beam: Beam = 0,
    lm: LanguageModel = "",
    device: Device = "auto",
) -> None:
    """Transcribe audio files.

    Files may have any sample rate and length. A file that cannot be read is named in one line, the
    others are still transcribed, and the exit code is 2.
    """
    if out is not None:
        require_place(Path(out))
    elif format in ("srt", "vtt") and len(audio) > 1:
        got = f"--format {format} and {len(audio)} files"
        raise ValueError(f"expected -o FOLDER with {got}, got none")
    recognizer = searching_recognizer(run, beam, lm, device)
    errors, lines, seconds = list[str](), list[str](), 0.0
    began, written = time.monotonic(), set[Path]()
    with Bar("transcribe") as bar:
        for number, one in enumerate(recognizer.transcribe_files(audio), 1):
            bar.show(number / len(audio), printable(one.source))
            seconds += one.seconds
            if one.error:
                errors.append(one.error)
            elif out is not None:
                write(one, format, Path(out), written)
            elif format == "text" and len(audio) > 1:
                lines.append(f"{printable(one.source)}: {one.text}")
            else:
                lines.append(one.render(format))
    if len(errors) < len(audio):
        log(f"{seconds:.1f} s of speech in {time.monotonic() - began:.1f} s")
    if format == "json" and out is None:
        emit(f'{{"transcripts": [{", ".join(lines)}]}}')
    elif lines:
        emit("\n".join(lines))
    for error in errors:
        print_error(error)
    if errors:
        raise typer.Exit(WRONG)


@command
def align(
    run: Run,
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="A recording.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The words spoken in it.")],
    format: Annotated[
        Literal["json", "textgrid"], typer.Option(help="What to write; textgrid is Praat's.")
    ] = "json",
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A folder to write AUDIO's file into.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Find when each word of a known text is spoken."""
    if out is not None:
        require_place(Path(out))
    from tacoskip.loading import load_recognizer

    transcript = load_recognizer(run, device).align(audio, text)
    if out is not None:
        write(transcript, format, Path(out), set())
    else:
        emit(transcript.render(format))


@command
def ngram(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="Files, a sentence a line.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The ARPA file to write.")] = "lm.arpa",
    order: Annotated[int, typer.Option(help="Words (or characters) of an n-gram.", min=2)] = 3,
    characters: Annotated[
        bool, typer.Option("--characters", help="Model characters, so that no word is unknown.")
    ] = False,
) -> Result:
    """Train an n-gram language model from text.

    For `transcribe --beam N --lm FILE`; smoothed by modified Kneser-Ney. Texts are normalised as
    for speech: numbers as words, no punctuation.
    """
    from tacoskip.recognition.ngram import train_file

    result = train_file(texts, out, order, characters)
    grams = ", ".join(f"{count:,} of {n}" for n, count in enumerate(result["ngrams"], 1))
    log(f"wrote {out}: {result['sentences']:,} sentences; n-grams: {grams}")
    return Result(result)


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
