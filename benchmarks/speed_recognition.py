"""Recognition, times real time: `transcribe` beside the peers.

    python benchmarks/speed_recognition.py [--wavs LJSpeech-1.1/wavs] [--rounds 3] [--json]

Two minutes of speech at 16 kHz, features, network and greedy decoding. tacoskip's
network is `recipe=ljspeech_asr`'s; speechbrain's chain is its Fbank and CRDNN (as in its recipes),
torchaudio's its MelSpectrogram and a Conformer of equal size in four layers; all with random
weights, one minute at a time. pocketsphinx is a whole recognizer with its own English model. The
networks differ: read it as what a user waits for. `parameters` are in millions.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
import torchaudio
from numpy.typing import NDArray
from sound import stretch
from timing import Contestant, Race, main, parser
from torch import nn

from tacoskip.config import load_config
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.run_folder import build_recognizer
from tacoskip.text.subwords import Characters

RATE, UNITS = 16000, 29
Wave = NDArray[np.float32]


def ours() -> tuple[Callable[[Wave], object], float]:
    """Return tacoskip's recognizer with random weights, and its parameters in millions."""
    torch.manual_seed(0)
    config = load_config("ljspeech_asr")
    model = build_recognizer(config, UNITS)
    recognizer = SpeechRecognizer(model, config, Characters())
    return recognizer.transcribe, millions(model)


def millions(model: nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6


def minutes(wave: Wave) -> list[torch.Tensor]:
    """A minute at a time, as rows (1, N)."""
    return [torch.from_numpy(part)[None] for part in np.array_split(wave, -(-len(wave) // 960000))]


def greedy(log_probs: torch.Tensor) -> list[int]:
    """CTC's best unit of each frame, repeats and blanks dropped: (1, L, U)."""
    best = torch.unique_consecutive(log_probs[0].argmax(1))
    return best[best > 0].tolist()


def by_speechbrain() -> tuple[Callable[[Wave], object], float] | None:
    if not peers.load("speechbrain", "speechbrain.lobes.models.CRDNN"):
        return None
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.CRDNN import CRDNN

    fbank, network = Fbank(n_mels=80), CRDNN(input_shape=[None, None, 80], time_pooling=True)
    out = nn.Linear(512, UNITS)
    model = nn.Sequential(fbank, network, out).eval()
    with torch.inference_mode():
        model(torch.randn(1, RATE))  # speechbrain makes some layers on the first call

    @torch.inference_mode()
    def run(wave: Wave) -> None:
        for row in minutes(wave):
            greedy(model(row).log_softmax(2))

    return run, millions(model)


def by_torchaudio() -> tuple[Callable[[Wave], object], float]:
    mel = torchaudio.transforms.MelSpectrogram(RATE, 512, 400, 160, n_mels=80)
    encoder = torchaudio.models.Conformer(256, 4, 1024, 4, 31).eval()
    first = nn.Conv1d(80, 256, 5, 2, padding=2)
    out = nn.Linear(256, UNITS)

    @torch.inference_mode()
    def run(wave: Wave) -> None:
        for row in minutes(wave):
            x = first((mel(row) + 1e-6).log()).transpose(1, 2)  # (B, C, T) -> (B, T, C)
            found, _ = encoder(x, torch.tensor([x.shape[1]]))
            greedy(out(found).log_softmax(2))

    return run, sum(map(millions, (encoder, first, out)))


def by_pocketsphinx() -> Callable[[Wave], object] | None:
    found = peers.load("pocketsphinx", "pocketsphinx")
    if not found:
        return None
    decoder = found.Decoder(samprate=RATE, loglevel="FATAL")

    def run(wave: Wave) -> None:
        decoder.start_utt()
        decoder.process_raw((wave * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()

    return run


def transcribing(seconds: float, wavs: Path | None) -> Race:
    wave = stretch(seconds, RATE, wavs)
    named: dict[str, Any] = {"torchaudio, Conformer": by_torchaudio()}
    speechbrain = by_speechbrain()
    if speechbrain:
        named["speechbrain, CRDNN"] = speechbrain
    transcribe, size = ours()
    contestants = [
        Contestant("tacoskip", lambda: transcribe(wave) and None, figures={"parameters": size})
    ]
    for name, (run, size) in named.items():
        figures = {"parameters": size}
        contestants.append(Contestant(name, lambda r=run: r(wave), True, figures=figures))  # type: ignore[misc]
    pocketsphinx = by_pocketsphinx()
    if pocketsphinx:
        contestants.append(Contestant("pocketsphinx", lambda: pocketsphinx(wave), peer=True))
    return Race(f"transcribe {seconds:g} s", "s of audio", seconds, contestants)


def races(options: argparse.Namespace) -> Iterator[Race]:
    yield transcribing(2.0 if options.quick else 120.0, options.wavs)


if __name__ == "__main__":
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--wavs", type=Path, help="a folder of recordings")
    parsed = arguments.parse_args()
    sys.exit(main(parsed, races(parsed)))
