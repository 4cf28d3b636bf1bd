"""Griffin-Lim here, in librosa and in torchaudio: how near, how fast, how good does it sound?

    python benchmarks/griffin_lim.py LJSpeech-1.1/wavs fsdd/recordings [--clips 12] [--json]
    python benchmarks/griffin_lim.py LJSpeech-1.1/wavs --mel

Each folder's clips, evenly picked, become magnitudes by tacoskip's front end, and every method
inverts the same ones. Spectral convergence is | |STFT(wave)| - target | / |target|, by librosa's
STFT. Time is processor time per second of audio; run it with OMP_NUM_THREADS=1. `--mel` inverts
magnitudes rebuilt from the mel bands instead, as a network with a mel output would have it. Where
`pesq` is installed (it is no dependency), PESQ compares the wave with the recording: wide band, or
narrow band for clips under 16 kHz.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import librosa
import numpy as np
import soxr
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor

from tacoskip.audio import (
    AudioSettings,
    FrontEnd,
    GriffinLimSettings,
    GriffinLimStream,
    griffin_lim,
    read_audio,
)
from tacoskip.audio.emphasis import deemphasis
from tacoskip.audio.inversion import sharpen
from tacoskip.data import PreparedCorpus
from tacoskip.evaluation.error_rates import cer
from tacoskip.evaluation.results import choose_clips
from tacoskip.loading import load_recognizer, load_voice

Wave = NDArray[np.float32]
Method = Callable[[Tensor], Wave]
Row = dict[str, float | str]


def methods(audio: AudioSettings) -> dict[str, Method]:
    """Name to a function of magnitudes (T, F) that returns a wave (N,)."""
    shape = audio.fft_length, audio.hop_length, audio.window_length
    flat = replace(audio, preemphasis=0.0)

    def ours(magnitude: Tensor, iterations: int, momentum: float = 0.95) -> Wave:
        seed = torch.Generator().manual_seed(0)
        waves = griffin_lim(magnitude[None], *shape, iterations, momentum, generator=seed)
        return waves[0].numpy()

    def from_noise(magnitude: Tensor) -> Wave:
        phase = 2 * np.pi * np.random.default_rng(0).random(magnitude.shape)
        return griffin_lim(
            magnitude[None], *shape, 30, initial_phase=torch.from_numpy(phase)[None]
        )[0].numpy()

    def streamed(magnitude: Tensor) -> Wave:
        stream = GriffinLimStream(flat, GriffinLimSettings(30, sharpening=1.0))
        chunks = magnitude.clamp_min(1e-9).log10().split(round(0.5 * audio.frames_per_second))
        return np.concatenate([*(stream.push(chunk) for chunk in chunks), stream.flush()])

    def librosas(magnitude: Tensor, iterations: int) -> Wave:
        n_fft, hop, window = shape
        return librosa.griffinlim(
            magnitude.numpy().T,
            n_iter=iterations,
            n_fft=n_fft,
            hop_length=hop,
            win_length=window,
            random_state=0,
        )

    def torchaudios(magnitude: Tensor, iterations: int) -> Wave:
        n_fft, hop, window = shape
        torch.manual_seed(0)
        inverse = torchaudio.transforms.GriffinLim(n_fft, iterations, window, hop, power=1.0)
        return inverse(magnitude.T).numpy()

    table: dict[str, Method] = {
        f"tacoskip {n}": partial(ours, iterations=n) for n in (0, 5, 10, 15, 20, 30, 60)
    }
    table["tacoskip 30, momentum 0.99"] = partial(ours, iterations=30, momentum=0.99)
    table["tacoskip 30, in a stream of 0.5 s"] = streamed
    table["tacoskip 30, from random phase"] = from_noise
    table |= {f"librosa {n}": partial(librosas, iterations=n) for n in (30, 60, 100)}
    table |= {f"torchaudio {n}": partial(torchaudios, iterations=n) for n in (30, 60, 100)}
    return table


def convergence(wave: Wave, magnitude: Tensor, audio: AudioSettings) -> float:
    rebuilt = librosa.stft(
        wave,
        n_fft=audio.fft_length,
        hop_length=audio.hop_length,
        win_length=audio.window_length,
    )
    target = magnitude.numpy().T[:, : rebuilt.shape[1]]
    return float(np.linalg.norm(np.abs(rebuilt) - target) / np.linalg.norm(target))


def perceived(wave: Wave, recording: Wave, rate: int) -> float:
    """PESQ, or NaN where the clip is too short for it."""
    import pesq

    band, to = ("wb", 16000) if rate >= 16000 else ("nb", 8000)
    heard, meant = (soxr.resample(x, rate, to) for x in (wave, recording[: len(wave)]))
    try:
        return float(pesq.pesq(to, meant, heard, band))
    except pesq.PesqError:
        return math.nan


Score = Callable[[list[Wave]], dict[str, float]]


def rows_of(magnitudes: list[Tensor], audio: AudioSettings, score: Score) -> list[Row]:
    """Run every method on all magnitudes (T, F); a row a method."""
    seconds = sum(map(len, magnitudes)) / audio.frames_per_second
    rows: list[Row] = []
    for name, method in methods(audio).items():
        method(magnitudes[0][:20])  # imports and compilation
        begin = time.process_time()
        found = [method(magnitude) for magnitude in magnitudes]
        spent = time.process_time() - begin
        near = [convergence(w, m, audio) for w, m in zip(found, magnitudes, strict=True)]
        waves = [deemphasis(torch.as_tensor(w), audio.preemphasis).numpy() for w in found]
        row: Row = {
            "method": name,
            "convergence": float(np.mean(near)),
            "ms_per_second": 1000 * spent / seconds,
        }
        rows.append(row | score(waves))
    against = next(float(r["ms_per_second"]) for r in rows if r["method"] == "librosa 100")
    for row in rows:
        row["times_faster_than_librosa_100"] = against / float(row["ms_per_second"])
    return rows


def measure(files: list[Path], from_mel: bool) -> list[Row]:
    """Recordings, or what their mel bands leave of them."""
    rate = read_audio(files[0])[1]
    audio = AudioSettings(sample_rate=rate, n_mels=80 if rate > 8000 else 60)
    front_end = FrontEnd(audio)
    recordings = [read_audio(file, rate)[0] for file in files]
    magnitudes = [front_end.magnitudes(wave) for wave in recordings]
    if from_mel:
        basis = front_end.mel_basis
        inverse = torch.linalg.pinv(basis)
        magnitudes = [(m @ basis @ inverse).clamp_min(1e-5) for m in magnitudes]

    def score(waves: list[Wave]) -> dict[str, float]:
        if not find_spec("pesq"):
            return {}
        pairs = zip(waves, recordings, strict=True)
        scores = [perceived(wave, meant, rate) for wave, meant in pairs]
        return {"pesq": float(np.nanmean(scores)) if not np.isnan(scores).all() else math.nan}

    return rows_of(magnitudes, audio, score)


def measure_voice(run: str, recognizer: str | None, clips: int) -> list[Row]:
    """What a trained voice predicts for texts of its test split."""
    voice = load_voice(run)
    config = voice.config
    chosen = choose_clips(PreparedCorpus.of(config), "test", clips)
    magnitudes = []
    for clip in chosen:
        speaker = clip.speaker if clip.speaker in voice.speakers else None
        (sentence,) = voice._run(voice.tokenizer.encode_many([clip.normalized], True), speaker)
        magnitudes.append(sharpen(sentence.linear, config.audio, config.griffin_lim.sharpening))
    hears = load_recognizer(recognizer) if recognizer else None
    said = [clip.normalized.lower() for clip in chosen]

    def score(waves: list[Wave]) -> dict[str, float]:
        if hears is None:
            return {}
        heard = [hears.transcribe(wave, config.audio.sample_rate).text for wave in waves]
        return {"cer": cer(said, [text.lower() for text in heard])}

    return rows_of(magnitudes, config.audio, score)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "folders", nargs="*", type=Path, help="folders of recordings, one rate each"
    )
    parser.add_argument("--clips", type=int, default=12, help="clips of each folder")
    parser.add_argument("--mel", action="store_true", help="invert magnitudes rebuilt from mels")
    parser.add_argument("--voice", metavar="RUN", help="invert what a trained voice predicts")
    parser.add_argument("--recognizer", metavar="RUN", help="with --voice: who writes it down")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    if not options.folders and not options.voice:
        parser.error("expected folders of recordings, or --voice RUN")
    result: dict[str, list[Row]] = {}
    if options.voice:
        result[options.voice] = measure_voice(options.voice, options.recognizer, options.clips)
    for folder in options.folders:
        files = sorted(folder.glob("*.wav"))
        if not files:
            print(f"no wav files in {folder}", file=sys.stderr)
            return 2
        picked = files[:: max(1, len(files) // options.clips)][: options.clips]
        result[str(folder)] = measure(picked, options.mel)
    if options.json:
        print(json.dumps({"mel": options.mel, "clips": options.clips, "results": result}))
        return 0
    for name, rows in result.items():
        print(f"\n{name}, {options.clips} clips{', from mels' if options.mel else ''}\n")
        more = [key for key in ("pesq", "cer") if key in rows[0]]
        heads = ["spectral convergence", "ms per s", "x librosa 100", *(m.upper() for m in more)]
        print(f"| method, iterations | {' | '.join(heads)} |\n|{'---|' * (1 + len(heads))}")
        for row in rows:
            print(
                f"| {row['method']} | {row['convergence']:.4f} | {row['ms_per_second']:.1f} | "
                f"{row['times_faster_than_librosa_100']:.1f} | "
                + "".join(f"{row[key]:.3f} | " for key in more)
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
