"""The work of `tacoskip synthesize`: which texts, into which files, or down a pipe."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tacoskip.cli.arguments import nearest_path
from tacoskip.cli.console import Bar, log

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tacoskip.synthesis.voice import Speech, Voice

DEFAULT_OUT = "speech.wav"
AUDIO_SUFFIXES = (".wav", ".flac")
TEXTS_AT_ONCE = 16


def read_texts(text: str | None, file: str | None) -> list[str]:
    """Return the texts: TEXT itself, or each line that is not blank of a file or standard input.

    Raises ValueError unless there is exactly one source with text in it.
    """
    if (text is None) == (file is None):
        got = "none of them" if text is None else "a text and --file"
        raise ValueError(f"expected a text, --file F, or - for standard input, got {got}")
    if file is None and text != "-":
        return [text or ""]
    name = "standard input" if file in (None, "-") else str(file)
    raw = sys.stdin.buffer.read() if file in (None, "-") else _read_bytes(Path(str(file)))
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        byte = f"byte 0x{raw[error.start]:02x} at {error.start}"
        raise ValueError(f"{name}: expected UTF-8 text, got {byte}") from None
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ValueError(f"{name}: expected a line of text, got none")
    return texts


def choose_out(out: str | None) -> str:
    """Return where to write: `out` if it is valid, by default the first free speech*.wav."""
    if out == "-":
        if sys.stdout.isatty():
            raise ValueError("expected a pipe or a file for -o -, got a terminal")
        return out
    if out is None:
        number, path = 1, Path(DEFAULT_OUT)
        while path.exists():
            number += 1
            path = Path(DEFAULT_OUT).with_stem(f"{Path(DEFAULT_OUT).stem}-{number}")
        return str(path)
    path = Path(out)
    if not path.parent.is_dir():
        raise ValueError(f"no folder '{path.parent}' to write -o {out} into")
    if path.suffix in AUDIO_SUFFIXES and path.is_dir():
        raise ValueError(f"expected a file for -o {out}, got a folder")
    if path.suffix and path.suffix not in AUDIO_SUFFIXES and not path.is_dir():
        raise ValueError(f"expected -o FILE.wav, FILE.flac, a folder or -, got '{out}'")
    if path.exists() and not path.is_dir() and path.suffix not in AUDIO_SUFFIXES:
        raise ValueError(f"expected -o FILE.wav, FILE.flac, a folder or -, got the file '{out}'")
    return out


def synthesize(
    voice: "Voice", texts: list[str], out: str, speaker: str | None, plot: bool, seed: int
) -> dict[str, Any]:
    """Synthesize the texts into `out`: one file, or a folder with a file for each text.

    Returns for each text the file, its length, and whether the speech ended by itself.
    """
    from tacoskip.synthesis.long_text import TEXT_PAUSE_SECONDS, join_waves

    target, work = Path(out), 0.0
    folder = target.suffix not in AUDIO_SUFFIXES
    if folder:
        target.mkdir(exist_ok=True)
    results: list[dict[str, Any]] = []
    waves = list["NDArray[np.float32]"]()
    for number, (speech, spent) in enumerate(_speeches(voice, texts, speaker, seed), 1):
        work += spent
        for warning in speech.warnings:
            log(f"{_excerpt(speech.text)}: {warning}", warning=True)
        path = target / f"{number:04d}.wav" if folder else target
        picture = path.with_suffix(".png")
        if not folder and len(texts) > 1:
            picture = path.with_name(f"{path.stem}-{number:04d}.png")
        if folder:
            _write(path, speech.wave, speech.sample_rate)
        waves.append(speech.wave)
        results.append({"text": speech.text, "file": str(path), "seconds": speech.seconds})
        results[-1] |= {"stopped": speech.stopped, "warnings": speech.warnings}
        if plot:
            _plot(speech, picture)
            results[-1]["plot"] = str(picture)
    rate = voice.sample_rate
    if not folder:
        _write(target, join_waves(waves, rate, TEXT_PAUSE_SECONDS), rate)
    seconds = sum(result["seconds"] for result in results)
    log(f"{seconds:.2f} s of speech in {work:.2f} s")
    return {
        "out": out,
        "sample_rate": rate,
        "speaker": speaker,
        "seed": seed,
        "speech": results,
        "work_seconds": round(work, 3),
    }


def stream(
    voice: "Voice", texts: list[str], speaker: str | None, seed: int, sink: BinaryIO
) -> None:
    """Write a 16-bit wav to `sink` while it is synthesized."""
    from tacoskip.synthesis.stream import stream_texts, write_wav

    write_wav(stream_texts(voice, texts, speaker, seed), voice.sample_rate, sink)


def _speeches(
    voice: "Voice", texts: list[str], speaker: str | None, seed: int
) -> Iterator[tuple["Speech", float]]:
    """Yield each text's speech and the seconds of work it took."""
    with Bar("synthesize") as bar:
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            if start:
                bar.show(start / len(texts), f"{start} of {len(texts)} texts")
            chosen = texts[start : start + TEXTS_AT_ONCE]
            began = time.monotonic()
            speeches = voice.synthesize(chosen, speaker=speaker, seed=seed)
            assert isinstance(speeches, list)
            spent = (time.monotonic() - began) / len(chosen)
            yield from ((speech, spent) for speech in speeches)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"no such file: {path}{nearest_path(path)}") from None


def _write(path: Path, wave: "NDArray[np.float32]", sample_rate: int) -> None:
    from tacoskip.audio import write_audio

    verb = "replaced" if path.exists() else "wrote"
    write_audio(path, wave, sample_rate)
    log(f"{verb} {path}")


def _plot(speech: "Speech", path: Path) -> None:
    from tacoskip.synthesis.plot import plot_speech

    verb = "replaced" if path.exists() else "wrote"
    plot_speech(speech, path)
    log(f"{verb} {path}")


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
