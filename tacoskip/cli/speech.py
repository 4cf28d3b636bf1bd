"""`synthesize`, `transcribe`, `align`, `export` and `ngram`: what a run is for."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tacoskip.cli.arguments import (
    Beam,
    Json,
    LanguageModel,
    LanguageModelWeight,
    Run,
    WordScore,
    searching_recognizer,
)
from tacoskip.cli.console import WRONG, emit_json, emit_table, guarded, say, working


@guarded
def synthesize(
    run: Run,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="What to say; - reads standard input."),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Read texts from a file, one a line.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="FILE.wav (or .flac), a folder, or - for a wav down a pipe. "
            "[default: the first of speech.wav, speech-2.wav, ... that is free]",
            show_default=False,
        ),
    ] = None,
    speaker: Annotated[
        str | None, typer.Option("--speaker", "-s", help="Which voice, where there are several.")
    ] = None,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw mel and alignment into a png beside the audio.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Same text and seed, same bytes.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Speak TEXT, the lines of a file, or standard input.

    Several lines go into one file one after another, or, where -o names a folder, into
    FOLDER/0001.wav and so on. A file that -o names is replaced, and that is said. A sentence that
    did not end by itself or lost its alignment is named in a warning.
    """
    from tacoskip.cli.long_text import choose_out, read_texts, speak, stream

    out = choose_out(out)
    if out == "-" and (plot or json):
        raise ValueError("expected -o FILE with --plot or --json, got -o -")
    texts = read_texts(text, file)
    sink = sys.stdout.buffer
    with working():
        from tacoskip.load import load_voice

        voice = load_voice(run)
        if out == "-":
            stream(voice, texts, speaker, seed, sink)
            return
        result = speak(voice, texts, out, speaker, plot, seed)
    if json:
        emit_json(result)


@guarded
def transcribe(
    run: Run,
    audio: Annotated[list[str], typer.Argument(metavar="AUDIO", help="Files of any length.")],
    format: Annotated[str, typer.Option(help="text, json, srt or vtt.")] = "text",
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A folder: one file for each AUDIO.")
    ] = None,
    beam: Beam = 0,
    lm: LanguageModel = "",
    lm_weight: LanguageModelWeight = 1.0,
    word_score: WordScore = 0.0,
) -> None:
    """Write down what is said in files that libsndfile reads, of any sample rate and length.

    A file that cannot be read is named in one line, the others are still done, and the exit code
    is 2.
    """
    from tacoskip.cli import transcripts
    from tacoskip.recognition.formats import TRANSCRIPT_FORMATS

    transcripts.check_request(format, TRANSCRIPT_FORMATS, out, len(audio))
    with working():
        recognizer = searching_recognizer(run, beam, lm, lm_weight, word_score)
        text, errors = transcripts.transcribe(recognizer, audio, format, out)
    if text or (out is None and not errors):
        print(text)
    for error in errors:
        say(f"error: {error}")
    if errors:
        raise typer.Exit(WRONG)


@guarded
def align(
    run: Run,
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="A recording.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is said in it.")],
    format: Annotated[str, typer.Option(help="json or textgrid (Praat).")] = "json",
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A folder to write AUDIO's file into.")
    ] = None,
) -> None:
    """Say when each word and character of TEXT is spoken in AUDIO (forced alignment)."""
    from tacoskip.cli.transcripts import check_request, write
    from tacoskip.recognition.formats import ALIGNMENT_FORMATS, render

    check_request(format, ALIGNMENT_FORMATS, out)
    with working():
        from tacoskip.load import load_recognizer

        transcript = load_recognizer(run).align(audio, text)
        if out is not None:
            write([transcript], format, out)
    if out is None:
        print(render(transcript, format))


@guarded
def export(
    run: Run,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A folder. [default: RUN/onnx]")
    ] = None,
    json: Json = False,
) -> None:
    """Write a run as ONNX graphs, which synthesize and transcribe take in RUN's place.

    Each graph is compared with its network on other sizes than it was traced with; the table has
    its size, its time and the difference. Needs the extra `export` (onnx, onnxruntime).
    """
    target = Path(out) if out else Path(run) / "onnx" if Path(run).is_dir() else Path(f"{run}.onnx")
    if target.is_file():
        raise ValueError(f"expected a folder with -o, got the file '{target}'")
    if not target.absolute().parent.is_dir():
        raise ValueError(f"no folder '{target.parent}' to make -o {target} in")
    with working():
        from tacoskip import export as exported

        result = exported.export(run, target)
    say(f"wrote {target}")
    if json:
        emit_json(result)
        return
    emit_table(["graph", "MB", "ms", "x torch", "difference"], exported.rows(result))
    if "rtf" in result:
        print(exported.summary(result))


@guarded
def ngram(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="Files, a sentence a line.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The ARPA file to write.")] = "lm.arpa",
    order: Annotated[int, typer.Option(help="Words (or characters) it looks at.", min=2)] = 3,
    characters: Annotated[
        bool, typer.Option("--characters", help="Model characters, so that any word can be heard.")
    ] = False,
    json: Json = False,
) -> None:
    """Train an n-gram model (modified Kneser-Ney) for `transcribe --beam N --lm FILE`.

    Texts are read as they are spoken: numbers as words, no punctuation.
    """
    from tacoskip.recognition.ngram import train_file

    with working():
        result = train_file(texts, out, order, characters)
    if json:
        emit_json(result)
        return
    grams = ", ".join(f"{count:,} of {n}" for n, count in enumerate(result["ngrams"], 1))
    say(f"wrote {out}: {result['sentences']:,} sentences; n-grams: {grams}")
