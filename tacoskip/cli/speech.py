"""`synthesize`, `transcribe`, `align`, `export` and `ngram`: what a run is used for."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tacoskip.cli.arguments import (
    Beam,
    Delivery,
    Device,
    LanguageModel,
    Run,
    require_place,
    searching_recognizer,
)
from tacoskip.cli.console import WRONG, Json, Result, command, emit, log, print_error, table


@command
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
    device: Device = "auto",
    json: Json = False,
    delivery: Delivery = Delivery(),  # noqa: B008 (read only)
) -> Result:
    """Synthesize speech from text.

    Reads TEXT, the lines of a file, or standard input. Several lines go into one file, one after
    another; where -o names a folder, into FOLDER/0001.wav and so on. A file that -o names is
    replaced, with a message. A warning names each sentence that did not end by itself or lost its
    alignment. In a text `[pause 0.5s]` or `<break time="500ms"/>` is a pause, and `[[phonemes]]`
    are spoken as they are by a voice of phonemes.
    """
    from tacoskip.cli import synthesis

    out = synthesis.choose_out(out)
    whole = delivery.times or delivery.trim or delivery.lufs is not None
    if out == "-" and (plot or json or whole):
        options = "--plot, --json, --times, --trim or --lufs"
        raise ValueError(f"expected -o FILE with {options}, got -o -")
    texts = synthesis.read_texts(text, file)
    from tacoskip.loading import load_voice

    voice = load_voice(run, device)
    if out == "-":
        synthesis.stream(voice, texts, speaker, seed, delivery)
        return Result({})
    return Result(synthesis.synthesize(voice, texts, out, speaker, seed, delivery, plot))


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
    from tacoskip.cli import transcripts

    transcripts.check_request(format, out, len(audio))
    recognizer = searching_recognizer(run, beam, lm, device)
    text, errors = transcripts.transcribe(recognizer, audio, format, out)
    if text or (out is None and not errors):
        emit(text)
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
    from tacoskip.cli import transcripts

    transcripts.check_request(format, out)
    from tacoskip.loading import load_recognizer

    transcript = load_recognizer(run, device).align(audio, text)
    if out is not None:
        transcripts.write(transcript, format, Path(out), set())
    else:
        emit(transcript.render(format))


@command
def export(
    run: Run,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A folder. [default: RUN/onnx]")
    ] = None,
) -> Result:
    """Write a run as ONNX graphs for onnxruntime.

    `synthesize` and `transcribe` accept the folder in place of RUN. Each graph is compared with its
    network on other sizes than it was traced with; the table lists its size and the largest
    difference. Needs the extra `export` (onnx, onnxruntime).
    """
    target = Path(out) if out else Path(run) / "onnx" if Path(run).is_dir() else Path(f"{run}.onnx")
    require_place(target)
    from tacoskip.export import export as export_run

    result = export_run(run, target)
    log(f"wrote {target}")
    rows = [
        [name, f"{one['bytes'] / 1e6:.2f}", f"{one['difference']:.1e}"]
        for name, one in result["graphs"].items()
    ]
    return Result(result, [table(["graph", "MB", "difference"], rows)])


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
