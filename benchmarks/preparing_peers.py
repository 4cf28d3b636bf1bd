"""What is run beside `tacoskip prepare`: the libraries a user would put together for the same.

A corpus is a folder with wavs/ID.wav and a metadata.csv of lines ID|text. Each function makes a
folder of its own anew.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import peers
import soundfile

VOICE = "en-us"


def clips_of(source: Path) -> list[tuple[Path, str]]:
    """Each clip's file and text."""
    lines = (source / "metadata.csv").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("|") for line in lines)
    return [(source / "wavs" / f"{id}.wav", text) for id, text in pairs]


def load_trim_write(source: Path, target: Path) -> None:
    """Load and trim by librosa, write wav: as the preprocessing of public Tacotrons."""
    target.mkdir()
    for path, _ in clips_of(source):
        wave, rate = librosa.load(path, sr=None)
        soundfile.write(target / path.name, librosa.effects.trim(wave, top_db=40)[0], rate)


def checked(target: Path, path: Path, text: str) -> dict[str, Any] | None:
    """Load, check, trim, level to -26 dB RMS and write one clip as flac; None: left out."""
    wave, rate = librosa.load(path, sr=None)
    if not np.isfinite(wave).all() or np.mean(np.abs(wave) >= 0.9999) > 0.01:
        return None
    level = float(20 * np.log10(np.sqrt(np.mean(wave**2)) + 1e-10))
    wave = librosa.effects.trim(wave - wave.mean(), top_db=40)[0]
    seconds = len(wave) / rate
    power = np.mean(wave**2)
    if not 0.1 <= seconds <= 20 or power < 1e-6:
        return None
    wave *= min(10 ** (-26 / 20) / np.sqrt(power), 0.99 / np.abs(wave).max())
    file = target / f"{path.stem}.flac"
    soundfile.write(file, wave, rate)
    return {"id": path.stem, "file": file.name, "text": text, "seconds": seconds, "level": level}


def drawn(rows: list[dict[str, Any]], file: Path) -> None:
    """Histograms of durations, letters a second and levels."""
    from matplotlib import pyplot

    figure, places = pyplot.subplots(1, 3, figsize=(12, 3.4))
    rates = [len(row["normalized"]) / row["seconds"] for row in rows]
    columns = ([row["seconds"] for row in rows], rates, [row["level"] for row in rows])
    for axes, column in zip(places, columns, strict=True):
        axes.hist(column, bins=40)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def by_librosa() -> Callable[..., None] | None:
    """Of librosa, numpy and soundfile for the audio, coqui-tts' cleaners and phonemizer for the
    text; a manifest of three splits, statistics and a picture. None without coqui-tts.

    Called with the corpus, the target and a number of threads that share the audio.
    """
    cleaners = peers.load("coqui-tts", "TTS.tts.utils.text.cleaners")
    if not cleaners:
        return None
    from phonemizer.backend import EspeakBackend

    from tacoskip.text.phonemes import backend

    backend(VOICE)  # where espeak's library lies
    espeak = EspeakBackend(VOICE, preserve_punctuation=True, with_stress=True)

    def run(source: Path, target: Path, threads: int = 1) -> None:
        target.mkdir()
        clips = clips_of(source)
        if threads == 1:
            found = [checked(target, *clip) for clip in clips]
        else:
            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(partial(checked, target), *zip(*clips, strict=True)))
        rows = [row for row in found if row]
        for row in rows:
            row["normalized"] = cleaners.english_cleaners(row["text"])
        for row, phonemes in zip(
            rows, espeak.phonemize([row["normalized"] for row in rows]), strict=True
        ):
            row["phonemes"] = phonemes
        held_out = max(1, len(rows) // 50)
        ends = {"validation": held_out, "test": 2 * held_out, "train": len(rows)}
        first = 0
        for split, end in ends.items():
            lines = (json.dumps(row) for row in rows[first:end])
            (target / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
            first = end
        seconds = np.percentile([row["seconds"] for row in rows], [0, 5, 50, 95, 100])
        (target / "report.json").write_text(json.dumps({"seconds": seconds.tolist()}))
        drawn(rows, target / "report.png")

    return run


def by_lhotse() -> Callable[[Path, Path], None] | None:
    """Cuts of lhotse, levelled by pyloudnorm, saved as flac with their manifest; nothing is trimmed
    or checked, no text is touched. None without pyloudnorm.
    """
    if not peers.load("pyloudnorm", "pyloudnorm"):
        return None
    from lhotse import CutSet, Recording, SupervisionSegment

    def cuts(source: Path) -> Iterator[Any]:
        for path, text in clips_of(source):
            recording = Recording.from_file(path, recording_id=path.stem)
            cut = recording.to_cut()
            cut.supervisions = [
                SupervisionSegment(path.stem, path.stem, 0.0, recording.duration, text=text)
            ]
            yield cut

    def run(source: Path, target: Path) -> None:
        target.mkdir()
        levelled = CutSet.from_cuts(cuts(source)).normalize_loudness(-23.0)
        saved = levelled.to_eager().save_audios(target, format="flac", progress_bar=False)
        saved.to_file(target / "cuts.jsonl.gz")

    return run
