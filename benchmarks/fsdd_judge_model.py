"""The two nets of the FSDD judge: which digits does a wave say?

`DigitClassifier` names the one digit of a clip, `DigitRecognizer` writes down a string of digits
(CTC, Graves et al. 2006). `Judge` holds both and travels as one safetensors file.
B batch, N samples at 8 kHz, T frames, M mels.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tacoskip.audio import AudioSettings, FrontEnd
from tacoskip.masks import lengths_to_mask

SAMPLE_RATE = 8000
SETTINGS = AudioSettings(sample_rate=SAMPLE_RATE, window_ms=25.0, hop_ms=10.0, n_mels=40, f_min=60)
DEPTH = 3.0  # log10: the judge hears 60 dB below the loudest band of a clip
BLANK = 10
WEIGHTS = "fsdd_judge.safetensors"

Wave = NDArray[np.floating[Any]]


class Ear:
    """Waves to log mel batches in -1..1, relative to each wave's loudest band: deaf to level."""

    def __init__(self) -> None:
        self.front_end = FrontEnd(SETTINGS)

    def __call__(self, waves: list[Wave]) -> tuple[Tensor, Tensor]:
        """Return mels (B, T, M), padded with silence, and their lengths (B,)."""
        mels = []
        for wave in waves:
            padded = np.pad(wave, (0, max(0, SAMPLE_RATE // 10 - len(wave))))
            mel = self.front_end.features(torch.from_numpy(padded).float())[1]
            mels.append((mel - mel.max()).clamp_min(-DEPTH) * (2 / DEPTH) + 1)
        lengths = torch.tensor([len(mel) for mel in mels])
        return nn.utils.rnn.pad_sequence(mels, batch_first=True, padding_value=-1.0), lengths


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, 5, stride=stride, padding=2),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
        nn.Dropout(0.1),
    )


class DigitClassifier(nn.Module):
    """Four convolutions over time, the mean and maximum over real frames, one linear layer."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(SETTINGS.n_mels, channels),
            convolution(channels, channels, stride=2),
            convolution(channels, channels, stride=2),
            convolution(channels, channels),
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * channels, 10))

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, M), (B,) -> digit logits (B, 10)."""
        x = self.body(mel.transpose(1, 2))  # (B, T, M) -> (B, C, T / 4)
        mask = lengths_to_mask((lengths + 3) // 4, x.shape[2])[:, None]
        mean = (x * mask).sum(dim=2) / mask.sum(dim=2)
        largest = x.masked_fill(~mask, 0).amax(dim=2)  # x >= 0 after ReLU
        logits: Tensor = self.head(torch.cat([mean, largest], dim=1))
        return logits


class DigitRecognizer(nn.Module):
    """Four convolutions and a bidirectional GRU: digits or blank (class 10) every 40 ms."""

    def __init__(self, channels: int = 128, gru: int = 96) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(SETTINGS.n_mels, channels, stride=2),
            convolution(channels, channels, stride=2),
            convolution(channels, channels),
            convolution(channels, channels),
        )
        self.gru = nn.GRU(channels, gru, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * gru, BLANK + 1)

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, M), (B,) -> log probabilities (B, T / 4, 11), lengths (B,)."""
        x = self.body(mel.transpose(1, 2)).transpose(1, 2)  # (B, T, M) -> (B, T / 4, C)
        short = (lengths + 3) // 4
        packed = nn.utils.rnn.pack_padded_sequence(x, short, True, enforce_sorted=False)
        h, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        return self.head(h).log_softmax(dim=2), short


def collapse(classes: list[int]) -> list[int]:
    """Return the digits of a CTC path: repeats merged, blanks dropped."""
    return [b for a, b in pairwise([BLANK, *classes]) if b not in (a, BLANK)]


class Judge:
    """Both nets, in eval mode; `facts` says what they scored on real takes."""

    def __init__(self, classifier: DigitClassifier, recognizer: DigitRecognizer) -> None:
        self.classifier, self.recognizer = classifier.eval(), recognizer.eval()
        self.facts: dict[str, Any] = {}
        self.ear = Ear()

    def _hear(self, wave: Wave, sample_rate: int) -> tuple[Tensor, Tensor]:
        if sample_rate != SAMPLE_RATE:
            wave = soxr.resample(wave, sample_rate, SAMPLE_RATE)
        return self.ear([wave])

    @torch.inference_mode()
    def digit(self, wave: Wave, sample_rate: int = SAMPLE_RATE) -> int:
        """Name the one digit that a wave (N,) says."""
        return int(self.classifier(*self._hear(wave, sample_rate)).argmax())

    @torch.inference_mode()
    def string(self, wave: Wave, sample_rate: int = SAMPLE_RATE) -> list[int]:
        """Write down the digits that a wave (N,) says."""
        log_probabilities, _ = self.recognizer(*self._hear(wave, sample_rate))
        return collapse(log_probabilities[0].argmax(dim=1).tolist())

    def save(self, folder: Path) -> Path:
        """Write weights and facts into `folder`; return the file."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            f"{name}.{key}": value.contiguous()
            for name, net in (("classifier", self.classifier), ("recognizer", self.recognizer))
            for key, value in net.state_dict().items()
        }
        save_file(weights, folder / WEIGHTS, metadata={"facts": json.dumps(self.facts)})
        return folder / WEIGHTS

    @classmethod
    def load(cls, folder: Path) -> "Judge":
        """Read what `save` wrote. Raises ValueError when it is not there."""
        path = folder / WEIGHTS
        if not path.is_file():
            raise ValueError(
                f"expected a judge in {path}, got none: make it with `fsdd_judge.py train`"
            )
        judge = cls(DigitClassifier(), DigitRecognizer())
        with safe_open(path, framework="pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            judge.facts = json.loads(file.metadata()["facts"])
        for name, net in (("classifier", judge.classifier), ("recognizer", judge.recognizer)):
            net.load_state_dict(
                {
                    k.removeprefix(f"{name}."): v
                    for k, v in weights.items()
                    if k.startswith(f"{name}.")
                }
            )
        return judge
