"""A trained recogniser with all it needs to listen.

B batch, N samples, T mel frames, L encoder frames, U units.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tacoskip.audio import FrontEnd, read_audio
from tacoskip.config import Config
from tacoskip.listening.decode import Word, confidence, greedy, words_of
from tacoskip.models.recognizer import Recognizer
from tacoskip.text.letters import Letters


@dataclass
class Transcript:
    """What was heard in one recording of `seconds`: text, and its words with times."""

    text: str
    seconds: float
    words: list[Word] = field(default_factory=list)

    @property
    def confidence(self) -> float:
        """Geometric mean over the words' confidences; 0 where nothing was heard."""
        return confidence(self.words)


class Listener:
    """A network, its settings and its units."""

    def __init__(self, model: Recognizer, config: Config) -> None:
        self.model = model.eval()
        self.config = config
        self.vocabulary = Letters()
        self.front_end = FrontEnd(config.audio)
        self.device = next(model.parameters()).device

    @property
    def sample_rate(self) -> int:
        return self.config.audio.sample_rate

    @property
    def frame_seconds(self) -> float:
        """Seconds from one encoder frame to the next."""
        return self.model.subsampling / self.config.audio.frames_per_second

    @torch.inference_mode()
    def posteriors(self, waves: list[NDArray[np.float32]]) -> list[Tensor]:
        """Return log probabilities (L, U) of each wave (N,), on the CPU, computed in one batch."""
        mels = [self.front_end.features(torch.from_numpy(wave))[1] for wave in waves]
        lengths = torch.tensor([len(mel) for mel in mels])
        output = self.model(
            pad_sequence(mels, batch_first=True).to(self.device), lengths.to(self.device)
        )
        counts = output.lengths.tolist()
        return [row[:count].cpu() for row, count in zip(output.log_probs, counts, strict=True)]

    def transcribe(
        self, audio: str | Path | ArrayLike, sample_rate: int | None = None
    ) -> Transcript:
        """Write down what is said in a file, or in a wave (N,) at `sample_rate` (by default ours).

        Raises ValueError for a file that cannot be read.
        """
        if isinstance(audio, str | Path):
            wave, _ = read_audio(audio, self.sample_rate)
        else:
            wave = np.asarray(audio, dtype=np.float32)
            if sample_rate is not None and sample_rate != self.sample_rate:
                import soxr

                wave = soxr.resample(wave, sample_rate, self.sample_rate)
        (log_probs,) = self.posteriors([wave])
        words = words_of(greedy(log_probs), self.name, self.frame_seconds)
        return Transcript(
            " ".join(word.text for word in words), len(wave) / self.sample_rate, words
        )

    def name(self, unit: int) -> str:
        """The text of a unit."""
        return self.vocabulary.symbols[unit]
