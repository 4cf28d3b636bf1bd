"""Recognition: `transcribe` and the peers' chains, two minutes of speech at 16 kHz.

    python benchmarks/speed_recognition.py [--wavs LJSpeech-1.1/wavs] [--rounds 3]

Features, network and greedy decoding. tacoskip's network is that of `recipe=ljspeech_asr`,
torchaudio's chain its MelSpectrogram and a Conformer of equal size in four layers; both with random
weights, one minute at a time. pocketsphinx is a whole recognizer with its own English model. The
networks differ: the figure is the time that a user waits. `parameters` are in millions.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import peers
import sizes
import torch
import torchaudio
from numpy.typing import NDArray
from sound import speech
from timing import Comparison, Contestant, Options, main
from torch import nn

from tacoskip.config import load_config
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.run_folder import build_recognizer
from tacoskip.text.subwords import Characters

RATE, TOKENS = 16000, 29
Wave = NDArray[np.float32]


def tacoskip(wave: Wave) -> Contestant:
    torch.manual_seed(0)
    config = load_config("ljspeech_asr")
    model = sizes.accelerated(build_recognizer(config, TOKENS))
    recognizer = SpeechRecognizer(model, config, Characters())

    def run() -> None:
        recognizer.transcribe(wave)

    return Contestant("tacoskip", run, figures={"parameters": millions(model)})


def millions(*models: nn.Module) -> float:
    return sum(p.numel() for model in models for p in model.parameters()) / 1e6


def by_minute(wave: Wave, log_probs: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Decode greedily a network's output (1, L, U) for each minute (1, N) of a wave."""
    with torch.inference_mode():
        for part in np.array_split(wave, -(-len(wave) // (60 * RATE))):
            best = log_probs(torch.from_numpy(part)[None])[0].argmax(1)
            torch.unique_consecutive(best).tolist()


def conformer(wave: Wave) -> Contestant:
    mel = torchaudio.transforms.MelSpectrogram(RATE, 512, 400, 160, n_mels=80)
    encoder = torchaudio.models.Conformer(256, 4, 1024, 4, 31).eval()
    first, last = nn.Conv1d(80, 256, 5, 2, padding=2), nn.Linear(256, TOKENS)

    def network(x: torch.Tensor) -> torch.Tensor:
        x = first((mel(x) + 1e-6).log()).transpose(1, 2)  # (B, C, T) -> (B, T, C)
        return last(encoder(x, torch.tensor([x.shape[1]]))[0])

    figures = {"parameters": millions(encoder, first, last)}
    return Contestant("torchaudio, Conformer", partial(by_minute, wave, network), True, figures)


def pocketsphinx(wave: Wave) -> Contestant | None:
    package = peers.load("pocketsphinx", "pocketsphinx")
    if not package:
        return None
    decoder = package.Decoder(samprate=RATE, loglevel="FATAL")

    def run() -> None:
        decoder.start_utt()
        decoder.process_raw((wave * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()

    return Contestant("pocketsphinx", run, peer=True)


def comparisons(options: Options) -> Iterator[Comparison]:
    seconds = 2.0 if options.quick else 120.0
    wave = speech(seconds, RATE, options.wavs)
    built = (build(wave) for build in (tacoskip, conformer, pocketsphinx))
    contestants = [one for one in built if one is not None]
    yield Comparison(f"transcribe {seconds:g} s", "s of audio", seconds, contestants)


if __name__ == "__main__":
    sys.exit(main(__doc__, comparisons, rounds=3))
