"""Features of 9.3 s of speech, and magnitudes back to a wave by Griffin-Lim.

    python benchmarks/speed_audio.py [--wavs LJSpeech-1.1/wavs] [--rounds 9]

Tacotron's frames (50 ms, 12.5 ms, FFT of 2048) at 22,050 Hz, of recordings or of espeak-ng's voice.

Features: log10 magnitudes, linear and mel, of a wave after pre-emphasis. librosa and torchaudio
compute one STFT in float32, tacoskip in float64; `difference` is the largest one to tacoskip's mel
in dB, above the floor of -100 dB.

Griffin-Lim: tacoskip's, and 60 iterations of each peer's. `convergence` is the relative distance to
the magnitudes by librosa's STFT, smaller is closer. griffin_lim.py measures quality.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import griffin_lim
import librosa
import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from sound import speech
from timing import Comparison, Contestant, Options, main

from tacoskip.audio import AudioSettings, FrontEnd

Array = NDArray[Any]
Features = Callable[[Array], tuple[Array, Array]]


def librosa_features(audio: AudioSettings, floor: float) -> Features:
    """One STFT, magnitude, Slaney mel: returns linear and mel (T, ...)."""
    basis = librosa.filters.mel(sr=audio.sample_rate, n_fft=audio.fft_length, n_mels=audio.n_mels)
    frames = {"hop_length": audio.hop_length, "win_length": audio.window_length}

    def run(wave: Array) -> tuple[Array, Array]:
        x = np.append(wave[:1], wave[1:] - audio.preemphasis * wave[:-1])
        linear = np.abs(librosa.stft(x, n_fft=audio.fft_length, **frames))
        mel = basis @ linear
        return np.log10(np.maximum(linear, floor)).T, np.log10(np.maximum(mel, floor)).T

    return run


def torchaudio_features(audio: AudioSettings, floor: float) -> Features:
    """One Spectrogram, then MelScale: returns linear and mel (T, ...)."""
    spectrogram = torchaudio.transforms.Spectrogram(
        audio.fft_length, audio.window_length, audio.hop_length, power=1.0, pad_mode="constant"
    )
    scale = torchaudio.transforms.MelScale(
        audio.n_mels, audio.sample_rate, n_stft=audio.n_bins, norm="slaney", mel_scale="slaney"
    )

    @torch.inference_mode()
    def run(wave: Array) -> tuple[Array, Array]:
        x = torchaudio.functional.preemphasis(torch.from_numpy(wave), audio.preemphasis)
        linear = spectrogram(x)
        mel = scale(linear)
        logs = (y.clamp_min(floor).log10().T.numpy() for y in (linear, mel))
        return next(logs), next(logs)

    return run


def features(wave: Array, audio: AudioSettings) -> list[Contestant]:
    front_end = FrontEnd(audio)
    expected = front_end.features(torch.from_numpy(wave))[1].numpy()
    floor = 10**front_end.floor
    contestants = [Contestant("tacoskip", lambda: front_end.features(torch.from_numpy(wave)))]
    methods = {
        "librosa": librosa_features(audio, floor),
        "torchaudio": torchaudio_features(audio, floor),
    }
    for name, method in methods.items():
        difference = 20 * float(np.abs(method(wave)[1][: len(expected)] - expected).max())
        figures = {"difference": difference}
        contestants.append(Contestant(name, partial(method, wave), peer=True, figures=figures))
    return contestants


def inversions(wave: Array, audio: AudioSettings) -> list[Contestant]:
    magnitude = 10 ** FrontEnd(audio).features(wave)[0]
    known = griffin_lim.methods(audio)
    names = [*(f"tacoskip {n}" for n in (30, 10, 5, 0)), "torchaudio 60", "librosa 60"]
    methods = {name: known[name] for name in names}
    contestants = []
    for name, method in methods.items():
        figures = {"convergence": griffin_lim.convergence(method(magnitude), magnitude, audio)}
        run, peer = partial(method, magnitude), not name.startswith("tacoskip")
        contestants.append(Contestant(name, run, peer, figures))
    return contestants


def comparisons(options: Options) -> Iterator[Comparison]:
    audio = AudioSettings()
    seconds = 0.5 if options.quick else 9.3
    wave = speech(seconds, audio.sample_rate, options.wavs)
    title = f"mel + linear features, {seconds:g} s"
    yield Comparison(title, "s of audio", seconds, features(wave, audio))
    title = f"Griffin-Lim, {seconds:g} s of audio, iterations as named"
    yield Comparison(title, "s of audio", seconds, inversions(wave, audio))


if __name__ == "__main__":
    sys.exit(main(__doc__, comparisons, rounds=9))
