"""Mel and linear spectrogram of a wave: tacoskip's front end, librosa, torchaudio, coqui-tts.

    python benchmarks/speed_features.py [--wavs LJSpeech-1.1/wavs] [--rounds 9] [--json]

Tacotron's frames at 22,050 Hz, 9.3 s. All make log10 magnitudes, linear and mel, of a wave after
pre-emphasis. librosa and torchaudio compute one STFT, in float32, tacoskip in float64; `difference`
is the largest one to tacoskip's mel, in dB, above the floor of -100 dB.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import peers
import torch
import torchaudio
from numpy.typing import NDArray
from sound import stretch
from timing import Contestant, Race, main, parser

from tacoskip.audio import AudioSettings, FrontEnd

Array = NDArray[Any]


def by_librosa(audio: AudioSettings, floor: float) -> Callable[[Array], tuple[Array, Array]]:
    """One STFT, magnitude, Slaney mel: returns linear and mel (T, ...)."""
    basis = librosa.filters.mel(sr=audio.sample_rate, n_fft=audio.fft_length, n_mels=audio.n_mels)

    def run(wave: Array) -> tuple[Array, Array]:
        x = np.append(wave[:1], wave[1:] - audio.preemphasis * wave[:-1])
        spectrum = librosa.stft(
            x,
            n_fft=audio.fft_length,
            hop_length=audio.hop_length,
            win_length=audio.window_length,
        )
        linear = np.abs(spectrum)
        mel = basis @ linear
        return np.log10(np.maximum(linear, floor)).T, np.log10(np.maximum(mel, floor)).T

    return run


def by_torchaudio(audio: AudioSettings, floor: float) -> Callable[[Array], tuple[Array, Array]]:
    """One Spectrogram, then MelScale: returns linear and mel (T, ...)."""
    spectrogram = torchaudio.transforms.Spectrogram(
        audio.fft_length, audio.window_length, audio.hop_length, power=1.0, pad_mode="constant"
    )
    scale = torchaudio.transforms.MelScale(
        audio.n_mels,
        audio.sample_rate,
        n_stft=audio.n_bins,
        norm="slaney",
        mel_scale="slaney",
    )

    @torch.inference_mode()
    def run(wave: Array) -> tuple[Array, Array]:
        x = torchaudio.functional.preemphasis(torch.from_numpy(wave), audio.preemphasis)
        linear = spectrogram(x)
        mel = scale(linear)
        logs = (y.clamp_min(floor).log10().T.numpy() for y in (linear, mel))
        return next(logs), next(logs)

    return run


def by_coqui(audio: AudioSettings) -> Callable[[Array], tuple[Array, Array]] | None:
    """Two STFTs, as its training does: AudioProcessor's spectrogram and melspectrogram."""
    if not peers.load("coqui-tts", "TTS.utils.audio"):
        return None
    from TTS.tts.configs.shared_configs import BaseAudioConfig
    from TTS.utils.audio import AudioProcessor

    processor = AudioProcessor(
        BaseAudioConfig(
            sample_rate=audio.sample_rate,
            fft_size=audio.fft_length,
            win_length=audio.window_length,
            hop_length=audio.hop_length,
            frame_length_ms=None,
            frame_shift_ms=None,
            num_mels=audio.n_mels,
            preemphasis=audio.preemphasis,
            log_func="np.log10",
            signal_norm=False,
            spec_gain=20,
        )
    )
    return lambda wave: (processor.spectrogram(wave).T, processor.melspectrogram(wave).T)


def races(options: argparse.Namespace) -> Iterator[Race]:
    audio = AudioSettings()
    seconds = 0.5 if options.quick else 9.3
    wave = stretch(seconds, audio.sample_rate, options.wavs)
    front_end = FrontEnd(audio)
    expected = front_end.features(torch.from_numpy(wave))[1].numpy()
    contestants = [
        Contestant("tacoskip", lambda: front_end.features(torch.from_numpy(wave))),
    ]
    for name, method in (
        ("librosa", by_librosa(audio, 10**front_end.floor)),
        ("torchaudio", by_torchaudio(audio, 10**front_end.floor)),
    ):
        mel = method(wave)[1]
        far = 20 * float(np.abs(mel[: len(expected)] - expected).max())
        figures = {"difference": far}
        contestants.append(
            Contestant(name, lambda m=method: m(wave), peer=True, figures=figures)  # type: ignore[misc]
        )
    coqui = by_coqui(audio)
    if coqui:
        contestants.append(Contestant("coqui-tts", lambda: coqui(wave), peer=True))
    yield Race(f"mel + linear features, {seconds:g} s", "s of audio", seconds, contestants)


if __name__ == "__main__":
    arguments = parser(__doc__, rounds=9)
    arguments.add_argument("--wavs", type=Path, help="a folder of recordings")
    parsed = arguments.parse_args()
    sys.exit(main(parsed, races(parsed)))
