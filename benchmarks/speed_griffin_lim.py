"""Magnitudes to a wave of 9.3 s: tacoskip's Griffin-Lim, and 60 iterations of everybody else's.

    python benchmarks/speed_griffin_lim.py [--wavs LJSpeech-1.1/wavs] [--rounds 5] [--json]

Tacotron's frames (50 ms, 12.5 ms, FFT of 2048) at 22,050 Hz, of recordings or of the demo's voice.
`convergence` is the distance to the magnitudes, relative, by librosa's STFT: smaller is nearer. How
it sounds is griffin_lim.py's to say.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import griffin_lim
import numpy as np
import peers
import torch
from sound import stretch
from timing import Contestant, Race, main, parser
from torch import Tensor

from tacoskip.audio import AudioSettings, FrontEnd


def coqui(magnitude: Tensor, iterations: int, audio: AudioSettings) -> griffin_lim.Wave:
    """coqui-tts' Griffin-Lim from random phase."""
    from TTS.utils.audio.numpy_transforms import griffin_lim as theirs

    np.random.seed(0)
    found = theirs(
        spec=magnitude.numpy().T,
        num_iter=iterations,
        fft_size=audio.fft_length,
        hop_length=audio.hop_length,
        win_length=audio.window_length,
    )
    return found.astype(np.float32)


def races(options: argparse.Namespace) -> Iterator[Race]:
    audio = AudioSettings()
    seconds = 0.5 if options.quick else 9.3
    wave = stretch(seconds, audio.sample_rate, options.wavs)
    magnitude = FrontEnd(audio).magnitudes(torch.from_numpy(wave))
    known = griffin_lim.methods(audio)
    chosen = {f"tacoskip {n}": known[f"tacoskip {n}"] for n in (30, 10, 5, 0)}
    theirs = {f"{who} 60": known[f"{who} 60"] for who in ("torchaudio", "librosa")}
    if peers.load("coqui-tts", "TTS.utils.audio.numpy_transforms"):
        theirs["coqui-tts 60"] = partial(coqui, iterations=60, audio=audio)
    contestants = []
    for name, method in (chosen | theirs).items():
        near = griffin_lim.convergence(method(magnitude), magnitude, audio)
        run = partial(method, magnitude)
        contestants.append(Contestant(name, run, name in theirs, figures={"convergence": near}))
    claim = f"Griffin-Lim, {seconds:g} s of audio, iterations as named"
    yield Race(claim, "s of audio", seconds, contestants)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--wavs", type=Path, help="a folder of recordings")
    parsed = arguments.parse_args()
    sys.exit(main(parsed, races(parsed)))
