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

Wave = NDArray[np.float32]
Method = Callable[[Tensor], Wave]


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
        stream = GriffinLimStream(flat, GriffinLimSettings(sharpening=1.0))
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
        f"tacoskip {n}": partial(ours, iterations=n) for n in (0, 5, 10, 30, 60)
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


def measure(files: list[Path], from_mel: bool) -> list[dict[str, float | str]]:
    """Run every method on every file and return one row a method."""
    rate = read_audio(files[0])[1]
    audio = AudioSettings(sample_rate=rate, n_mels=80 if rate > 8000 else 60)
    front_end = FrontEnd(audio)
    waves = [read_audio(file, rate)[0] for file in files]
    magnitudes = [front_end.magnitudes(wave) for wave in waves]
    if from_mel:
        basis = front_end.mel_basis
        inverse = torch.linalg.pinv(basis)
        magnitudes = [(m @ basis @ inverse).clamp_min(1e-5) for m in magnitudes]
    seconds = sum(map(len, waves)) / rate
    rows: list[dict[str, float | str]] = []
    for name, method in methods(audio).items():
        method(magnitudes[0][:20])  # imports and compilation
        begin = time.process_time()
        found = [method(magnitude) for magnitude in magnitudes]
        spent = time.process_time() - begin
        near = [convergence(w, m, audio) for w, m in zip(found, magnitudes, strict=True)]
        row: dict[str, float | str] = {
            "method": name,
            "convergence": float(np.mean(near)),
            "ms_per_second": 1000 * spent / seconds,
        }
        if find_spec("pesq"):
            plain = (deemphasis(torch.as_tensor(w), audio.preemphasis).numpy() for w in found)
            scores = [perceived(p, w, rate) for p, w in zip(plain, waves, strict=True)]
            row["pesq"] = float(np.nanmean(scores)) if not np.isnan(scores).all() else math.nan
        rows.append(row)
    against = next(float(r["ms_per_second"]) for r in rows if r["method"] == "librosa 100")
    for row in rows:
        row["times_faster_than_librosa_100"] = against / float(row["ms_per_second"])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "folders", nargs="+", type=Path, help="folders of recordings, one rate each"
    )
    parser.add_argument("--clips", type=int, default=12, help="clips of each folder")
    parser.add_argument("--mel", action="store_true", help="invert magnitudes rebuilt from mels")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    result: dict[str, list[dict[str, float | str]]] = {}
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
        print("| method, iterations | spectral convergence | ms per s | x librosa 100 | PESQ |")
        print("|---|---|---|---|---|")
        for row in rows:
            print(
                f"| {row['method']} | {row['convergence']:.4f} | {row['ms_per_second']:.1f} | "
                f"{row['times_faster_than_librosa_100']:.1f} | {row.get('pesq', math.nan):.2f} |"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
