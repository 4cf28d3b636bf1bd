"""`synthesize`: which texts, into which files, or down a pipe."""

import json
import reprlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tacoskip.cli.arguments import Delivery, Device, Run
from tacoskip.cli.console import Bar, Json, Result, command, log, standard_output
from tacoskip.files import decode_text, read_bounded, write_whole
from tacoskip.messages import nearest_path

if TYPE_CHECKING:
    from tacoskip.synthesis.speech import Speech
    from tacoskip.synthesis.voice import Voice
    from tacoskip.timed_words import Word

AUDIO_SUFFIXES = (".wav", ".flac")
TEXTS_AT_ONCE = 16
TEXT_BYTES = 100_000_000  # of a file of texts


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
    out = choose_out(out)
    whole = delivery.times or delivery.trim or delivery.lufs is not None
    if out == "-" and (plot or json or whole):
        options = "--plot, --json, --times, --trim or --lufs"
        raise ValueError(f"expected -o FILE with {options}, got -o -")
    texts = read_texts(text, file)
    from tacoskip.loading import load_voice

    voice = load_voice(run, device)
    if out == "-":
        from tacoskip.audio.io import write_wav

        speed, lexicon, *_ = delivery.controls()
        waves = voice.stream(texts, speaker, seed, speed, lexicon)
        write_wav(waves, voice.sample_rate, standard_output().buffer)
        return Result({})
    return Result(synthesize_files(voice, texts, out, speaker, seed, delivery, plot))


def read_texts(text: str | None, file: str | None) -> list[str]:
    """Return the texts: TEXT itself, or each line that is not blank of a file or standard input.

    The file may be a pipe that a shell made. Raises ValueError unless there is exactly one source
    with text in it.
    """
    if (text is None) == (file is None):
        got = "none of them" if text is None else "a text and --file"
        raise ValueError(f"expected a text, --file F, or - for standard input, got {got}")
    if file is None and text != "-":
        return [text or ""]
    name = "standard input" if file is None or file == "-" else file
    try:
        with nullcontext(sys.stdin.buffer) if name != file else open(name, "rb") as source:
            raw = read_bounded(source, name, TEXT_BYTES)
    except FileNotFoundError:
        raise ValueError(f"no such file: {file}{nearest_path(name)}") from None
    texts = [line.strip() for line in decode_text(raw, name).splitlines() if line.strip()]
    if not texts:
        raise ValueError(f"{name}: expected a line of text, got none")
    return texts


def choose_out(out: str | None) -> str:
    """Return where to write: `out` if it is valid, by default the first free speech*.wav."""
    if out == "-":
        if standard_output().isatty():
            raise ValueError("expected a pipe or a file for -o -, got a terminal")
        return out
    if out is None:
        names = chain(["speech.wav"], (f"speech-{number}.wav" for number in count(2)))
        return next(name for name in names if not Path(name).exists())
    path = Path(out)
    if not path.parent.is_dir():
        raise ValueError(f"no folder '{path.parent}' to write -o {out} into")
    if path.suffix in AUDIO_SUFFIXES:
        if path.is_dir():
            raise ValueError(f"expected a file for -o {out}, got a folder")
    elif not path.is_dir() and (path.suffix or path.exists()):
        got = f"the file '{out}'" if path.exists() else f"'{out}'"
        raise ValueError(f"expected -o FILE.wav, FILE.flac, a folder or -, got {got}")
    return out


def synthesize_files(
    voice: "Voice",
    texts: list[str],
    out: str,
    speaker: str | None,
    seed: int,
    delivery: Delivery,
    plot: bool,
) -> dict[str, Any]:
    """Synthesize the texts into `out`: one file, or a folder with a file for each text.

    Returns for each text the file, its length, and whether the speech ended by itself.
    """
    from tacoskip.synthesis.plot import plot_speech

    target, work, controls = Path(out), 0.0, delivery.controls()
    folder = target.suffix not in AUDIO_SUFFIXES
    if folder:
        target.mkdir(exist_ok=True)
    results, joined = list[dict[str, Any]](), list["Speech"]()
    with Bar("synthesize") as bar:
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            if start:
                bar.count(start, len(texts), f"{start} of {len(texts)} texts")
            began = time.monotonic()
            group = texts[start : start + TEXTS_AT_ONCE]
            speeches = voice.synthesize(group, speaker, seed, *controls)
            assert isinstance(speeches, list)
            work += time.monotonic() - began
            for number, speech in enumerate(speeches, start + 1):
                for warning in speech.warnings:
                    log(f"{reprlib.repr(speech.text)}: {warning}", warning=True)
                path = target / f"{number:04d}.wav" if folder else target
                result = {"text": speech.text, "file": str(path), "seconds": speech.seconds}
                result |= {"stopped": speech.stopped, "warnings": speech.warnings}
                results.append(result)
                if folder:
                    _write([speech], path, delivery.times)
                else:
                    joined.append(replace(speech, alignments=[], mel=speech.mel[:0].copy()))
                if plot:
                    several = not folder and len(texts) > 1
                    name = f"{path.stem}-{number:04d}" if several else path.stem
                    picture = path.with_name(f"{name}.png")
                    result["plot"] = str(picture)
                    with _logged(picture):
                        plot_speech(speech, picture)
    if joined:
        _write(joined, target, delivery.times)
    seconds = sum(result["seconds"] for result in results)
    log(f"{seconds:.2f} s of speech in {work:.2f} s")
    return {
        "out": out,
        "sample_rate": voice.sample_rate,
        "speaker": speaker,
        "seed": seed,
        "speech": results,
        "work_seconds": round(work, 3),
    }


def _write(speeches: list["Speech"], path: Path, times: str | None) -> None:
    """Write speeches one after another into a file, and when their words are spoken."""
    from tacoskip.audio import write_audio
    from tacoskip.synthesis.long_text import TEXT_PAUSE_SECONDS, join_waves
    from tacoskip.synthesis.speech import shifted
    from tacoskip.timed_words import row, srt, vtt

    rate, at = speeches[0].sample_rate, 0.0
    pauses = [0.0, *[TEXT_PAUSE_SECONDS] * (len(speeches) - 1), 0.0]
    with _logged(path):
        write_audio(path, join_waves([speech.wave for speech in speeches], rate, pauses), rate)
    if times is None:
        return
    words, sentences = list["Word"](), list["Word"]()
    for speech in speeches:
        words += shifted(speech.words, at)
        sentences += shifted(speech.sentences, at)
        at += speech.seconds + TEXT_PAUSE_SECONDS
    rows = {"words": [*map(row, words)], "sentences": [*map(row, sentences)]}
    text = json.dumps(rows, ensure_ascii=False, indent=1) if times == "json" else ""
    beside = path.with_suffix(f".{times}")
    with _logged(beside):
        write_whole(beside, text or {"srt": srt, "vtt": vtt}[times](words))


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    verb = "replaced" if path.exists() else "wrote"
    yield
    log(f"{verb} {path}")
