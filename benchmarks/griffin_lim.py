"""Griffin-Lim of tacoskip, librosa and torchaudio: convergence, speed and perceived quality.

    OMP_NUM_THREADS=1 python benchmarks/griffin_lim.py LJSpeech-1.1/wavs fsdd/recordings [--mel]
    python benchmarks/griffin_lim.py --voice runs/demo [--recognizer runs/demo_asr]

Each folder's clips, evenly picked, become magnitudes by tacoskip's front end, and every method
inverts the same ones. Spectral convergence is | |STFT(wave)| - target | / |target|, by librosa's
STFT. Time is CPU time per second of audio. `--mel` inverts magnitudes rebuilt from the mel bands,
`--voice` those that a trained voice predicts for texts of its test split, which a recognizer
transcribes. Where `pesq` is installed (it is no dependency), PESQ compares the wave with the
recording: wide band, or narrow band for clips under 16 kHz.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import librosa
import numpy as np
import soxr
import torch
import torchaudio
from numpy.typing import NDArray
from timing import print_table
from torch import Tensor

from tacoskip.audio import (
    AudioSettings,
    FrontEnd,
    GriffinLimSettings,
    griffin_lim,
    read_audio,
)
from tacoskip.audio.frames import Frames, deemphasis
from tacoskip.audio.inversion import invert, sharpen
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.evaluation.error_rates import cer
from tacoskip.evaluation.results import choose_clips
from tacoskip.loading import load_recognizer, load_voice

Wave = NDArray[np.float32]
Method = Callable[[Tensor], Wave]
Row = dict[str, float | str]


def methods(audio: AudioSettings) -> dict[str, Method]:
    """Name to a function of magnitudes (T, F) that returns a wave (N,)."""
    shape = audio.fft_length, audio.hop_length, audio.window_length

    def ours(magnitude: Tensor, iterations: int, momentum: float = 0.95) -> Wave:
        return griffin_lim(magnitude[None], *shape, iterations, momentum)[0].numpy()

    def from_noise(magnitude: Tensor) -> Wave:
        settings = GriffinLimSettings(30, phase="random")
        return invert(magnitude[None], None, Frames(*shape), settings, 0)[0].numpy()

    def with_librosa(magnitude: Tensor, iterations: int) -> Wave:
        sizes = dict(zip(("n_fft", "hop_length", "win_length"), shape, strict=True))
        return librosa.griffinlim(magnitude.numpy().T, n_iter=iterations, random_state=0, **sizes)

    def with_torchaudio(magnitude: Tensor, iterations: int) -> Wave:
        n_fft, hop, window = shape
        torch.manual_seed(0)
        inverse = torchaudio.transforms.GriffinLim(n_fft, iterations, window, hop, power=1.0)
        return inverse(magnitude.T).numpy()

    table: dict[str, Method] = {
        f"tacoskip {n}": partial(ours, iterations=n) for n in (0, 5, 10, 15, 20, 30, 60)
    }
    table["tacoskip 30, momentum 0.99"] = partial(ours, iterations=30, momentum=0.99)
    table["tacoskip 30, from random phase"] = from_noise
    table |= {f"librosa {n}": partial(with_librosa, iterations=n) for n in (30, 60, 100)}
    table |= {f"torchaudio {n}": partial(with_torchaudio, iterations=n) for n in (30, 60, 100)}
    return table


def convergence(wave: Wave, magnitude: Tensor, audio: AudioSettings) -> float:
    shape = {"hop_length": audio.hop_length, "win_length": audio.window_length}
    rebuilt = librosa.stft(wave, n_fft=audio.fft_length, **shape)
    target = magnitude.numpy().T[:, : rebuilt.shape[1]]
    return float(np.linalg.norm(np.abs(rebuilt) - target) / np.linalg.norm(target))


def perceived(wave: Wave, recording: Wave, rate: int) -> float:
    """PESQ, or NaN where the clip is too short for it."""
    import pesq

    band, to = ("wb", 16000) if rate >= 16000 else ("nb", 8000)
    output, expected = (soxr.resample(x, rate, to) for x in (wave, recording[: len(wave)]))
    try:
        return float(pesq.pesq(to, expected, output, band))
    except pesq.PesqError:
        return math.nan


Score = Callable[[list[Wave]], dict[str, float]]


def rows_of(magnitudes: list[Tensor], audio: AudioSettings, score: Score) -> list[Row]:
    """Run every method on all magnitudes (T, F); a row a method."""
    seconds = sum(map(len, magnitudes)) / audio.frames_per_second
    rows: list[Row] = []
    for name, method in methods(audio).items():
        method(magnitudes[0][:20])  # imports and compilation
        start = time.process_time()
        outputs = [method(magnitude) for magnitude in magnitudes]
        milliseconds = 1000 * (time.process_time() - start) / seconds
        near = [convergence(w, m, audio) for w, m in zip(outputs, magnitudes, strict=True)]
        row: Row = {"method, iterations": name, "spectral convergence": float(np.mean(near))}
        waves = [deemphasis(torch.as_tensor(w), audio.preemphasis).numpy() for w in outputs]
        rows.append(row | {"ms per s": milliseconds} | score(waves))
    return rows


def measure(files: list[Path], from_mel: bool) -> list[Row]:
    """Recordings, or magnitudes rebuilt from their mel bands."""
    rate = read_audio(files[0])[1]
    audio = AudioSettings(sample_rate=rate, n_mels=80 if rate > 8000 else 60)
    front_end = FrontEnd(audio)
    recordings = [read_audio(file, rate)[0] for file in files]
    magnitudes = [10 ** front_end.features(wave)[0] for wave in recordings]
    if from_mel:
        basis = front_end.mel_basis
        inverse = torch.linalg.pinv(basis)
        magnitudes = [(m @ basis @ inverse).clamp_min(1e-5) for m in magnitudes]

    def score(waves: list[Wave]) -> dict[str, float]:
        if not find_spec("pesq"):
            return {}
        pairs = zip(waves, recordings, strict=True)
        scores = [perceived(wave, recording, rate) for wave, recording in pairs]
        return {"PESQ": float(np.nanmean(scores)) if not np.isnan(scores).all() else math.nan}

    return rows_of(magnitudes, audio, score)


def measure_voice(run: str, recognizer: str | None, clips: int) -> list[Row]:
    """The magnitudes that a trained voice predicts for texts of its test split."""
    voice = load_voice(run)
    config = voice.config
    chosen = choose_clips(PreparedCorpus.of(config), "test", clips)
    magnitudes = []
    for clip in chosen:
        speaker = clip.speaker if clip.speaker in voice.speakers else None
        texts = [clip.normalized]
        _, (linear,) = voice._run(texts, voice.tokenizer.encode_many(texts, True), speaker, 1.0)
        magnitudes.append(sharpen(linear, config.audio, config.griffin_lim.sharpening))
    judge = load_recognizer(recognizer) if recognizer else None
    references = [clip.normalized.lower() for clip in chosen]

    def score(waves: list[Wave]) -> dict[str, float]:
        if judge is None:
            return {}
        transcripts = [judge.transcribe(wave, config.audio.sample_rate).text for wave in waves]
        return {"CER": cer(references, [text.lower() for text in transcripts])}

    return rows_of(magnitudes, config.audio, score)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, help="recordings, one rate a folder")
    parser.add_argument("--clips", type=int, default=12, help="clips of each folder")
    parser.add_argument("--mel", action="store_true")
    parser.add_argument("--voice", metavar="RUN")
    parser.add_argument("--recognizer", metavar="RUN")
    options = parser.parse_args()
    if not options.folders and not options.voice:
        parser.error("expected folders of recordings, or --voice RUN")
    if options.voice:
        rows = measure_voice(options.voice, options.recognizer, options.clips)
        print_table(rows, options.voice)
    for folder in options.folders:
        files = sorted(folder.glob("*.wav"))
        if not files:
            print(f"no wav files in {folder}", file=sys.stderr)
            return 2
        picked = files[:: max(1, len(files) // options.clips)][: options.clips]
        print_table(measure(picked, options.mel), f"{folder}, {len(picked)} clips")
    return 0


if __name__ == "__main__":
    sys.exit(main())
