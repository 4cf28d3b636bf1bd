"""A trained voice: text in, waveform out.

A text is split into sentences, the sentences of all texts go through the network in batches of
similar length, and their waves are joined. S symbols, T mel frames, L decoder steps, M mels, F
linear bins, N samples.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tacoskip.audio import FrontEnd, GriffinLimStream
from tacoskip.config import Config
from tacoskip.messages import nearest
from tacoskip.models.tacotron import Tacotron, TacotronOutput
from tacoskip.run_folder.exported import OnnxTacotron
from tacoskip.synthesis.alignment import alignment_warnings
from tacoskip.synthesis.long_text import (
    SENTENCE_PAUSE_SECONDS,
    batches_by_length,
    join_waves,
    silence,
    spoken_sentences,
)
from tacoskip.text import Tokenizer

# A sentence is cut at this many times the corpus' mean frames a symbol, and one second more.
LENGTH_FACTOR = 2.5
# Attention this long on the last symbol ends a sentence whose stop token failed. In recordings it
# rests there 0.08 s on average and 0.34 s at most (docs/explanation/experiments/phonemes.md).
REST_SECONDS = 0.5


class UnseenSymbols(UserWarning):
    """Symbols of a text that occur in none of the texts the voice was trained on."""


@dataclass
class Speech:
    """A synthesized text: wave (N,) float32, mel (T, M) log10 magnitude, alignment (L, S) to the
    symbols of all its sentences.

    stopped: every sentence ended by itself. warnings: what went wrong.
    """

    text: str
    wave: NDArray[np.float32]
    sample_rate: int
    mel: NDArray[np.float32]
    alignment: NDArray[np.float32]
    stopped: bool
    symbols: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.sample_rate


@dataclass
class _Sentence:
    """A sentence after the network: ids (S,), mel (T, M), linear (T, F), alignment (L, S)."""

    ids: list[int]
    mel: Tensor
    linear: Tensor
    alignment: Tensor
    stopped: bool

    @property
    def warnings(self) -> list[str]:
        return alignment_warnings(self.alignment.numpy(), self.stopped)


class Voice:
    """A network with its settings, symbols and speakers.

    frames_per_symbol: mean of the corpus, for the limit of a sentence's length. seen_symbols: ids
    that occur in the training texts; none of them are known where it is empty.
    """

    def __init__(
        self,
        model: Tacotron | OnnxTacotron,
        config: Config,
        speakers: list[str],
        frames_per_symbol: float,
        seen_symbols: Sequence[int] = (),
    ) -> None:
        self.model = model
        self.config = config
        self.speakers = speakers
        self.frames_per_symbol = frames_per_symbol
        self.seen_symbols = frozenset(seen_symbols)
        self.device = model.mel_mean.device
        self.tokenizer = Tokenizer(config.text)
        self.front_end = FrontEnd(config.audio)

    @property
    def sample_rate(self) -> int:
        return self.config.audio.sample_rate

    def synthesize(
        self, text: str | list[str], speaker: str | None = None, seed: int = 0
    ) -> "Speech | list[Speech]":
        """Synthesize one text (returns a Speech) or several together (returns a list).

        The same text, speaker and seed give the same samples. Raises ValueError for an unknown
        speaker or a text without words. Warns of characters that the voice has no symbol for
        (DroppedCharacters) and of symbols it was not trained on (UnseenSymbols).
        """
        texts = [text] if isinstance(text, str) else list(text)
        groups = [self._encode(one) for one in texts]
        sentences = iter(self._run([ids for group in groups for ids in group], speaker))
        speeches = [
            self._speech(one, [next(sentences) for _ in group], seed)
            for one, group in zip(texts, groups, strict=True)
        ]
        return speeches[0] if isinstance(text, str) else speeches

    def stream(
        self, text: str, speaker: str | None = None, seed: int = 0, chunk_seconds: float = 0.5
    ) -> Iterator[NDArray[np.float32]]:
        """Synthesize sentence by sentence: yields waves (N,) as they are ready.

        The phase continues from one wave of a sentence to the next.
        """
        step = max(1, round(chunk_seconds * self.config.audio.frames_per_second))
        for number, ids in enumerate(self._encode(text), 1):
            if number > 1:
                yield silence(SENTENCE_PAUSE_SECONDS, self.sample_rate)
            (sentence,) = self._run([ids], speaker)
            for warning in sentence.warnings:
                warnings.warn(f"sentence {number}: {warning}", stacklevel=2)
            inversion = GriffinLimStream(self.config.audio, self.config.griffin_lim, seed=seed)
            for start in range(0, len(sentence.linear), step):
                yield inversion.push(sentence.linear[start : start + step])
            yield inversion.flush()

    def _encode(self, text: str) -> list[list[int]]:
        """Return the symbols of each sentence."""
        self.tokenizer.read(text)  # raises, and names the whole text, where it has no words
        sentences = self.tokenizer.encode_many(spoken_sentences(text))
        unseen = {i for ids in sentences for i in ids} - self.seen_symbols
        if self.seen_symbols and unseen:
            names = ", ".join(repr(self.tokenizer.symbols[i]) for i in sorted(unseen))
            warnings.warn(
                f"no training text has {names}: the voice may mispronounce it",
                UnseenSymbols,
                stacklevel=3,
            )
        return sentences

    def _speaker_index(self, speaker: str | None) -> int:
        if speaker is None:
            return 0
        if speaker not in self.speakers:
            hint = f"{nearest(speaker, self.speakers)} (known: {', '.join(self.speakers)})"
            raise ValueError(f"unknown speaker '{speaker}'{hint}")
        return self.speakers.index(speaker)

    def _run(self, sentences: list[list[int]], speaker: str | None) -> list[_Sentence]:
        """Run the network over sentences; their order is kept."""
        index = self._speaker_index(speaker)
        done: dict[int, _Sentence] = {}
        self.model.eval()
        for batch in batches_by_length(sentences):
            output = self._infer([sentences[i] for i in batch], index)
            mel, linear = self.model.restore(output.mel, output.linear)
            for row, i in enumerate(batch):
                frames = int(output.mel_lengths[row])
                steps = -(-frames // self.model.reduction)
                done[i] = _Sentence(
                    sentences[i],
                    mel[row, :frames].cpu(),
                    linear[row, :frames].cpu(),
                    output.alignments[row, :steps, : len(sentences[i])].cpu(),
                    bool(output.stopped[row]),
                )
        return [done[i] for i in range(len(sentences))]

    def _infer(self, sentences: list[list[int]], speaker: int) -> TacotronOutput:
        symbols = pad_sequence([torch.tensor(ids) for ids in sentences], batch_first=True)
        lengths = torch.tensor([len(ids) for ids in sentences])
        second = self.config.audio.frames_per_second
        limits = (second + lengths * self.frames_per_symbol * LENGTH_FACTOR).long()
        speakers = torch.full_like(lengths, speaker)
        return self.model.infer(
            symbols.to(self.device),
            lengths.to(self.device),
            speakers.to(self.device),
            limits.to(self.device),
            round(REST_SECONDS * second),
        )

    def _speech(self, text: str, sentences: list[_Sentence], seed: int) -> Speech:
        """Invert the sentences of one text and join them."""
        from scipy.linalg import block_diag

        linear = pad_sequence(
            [s.linear for s in sentences], batch_first=True, padding_value=self.front_end.floor
        )
        lengths = torch.tensor([len(s.linear) for s in sentences])
        waves = self.front_end.to_wave(linear, lengths, self.config.griffin_lim, seed=seed)
        several = len(sentences) > 1
        return Speech(
            text=text,
            wave=join_waves(
                [wave.cpu().numpy() for wave in waves], self.sample_rate, SENTENCE_PAUSE_SECONDS
            ),
            sample_rate=self.sample_rate,
            mel=torch.cat([s.mel for s in sentences]).numpy(),
            alignment=block_diag(*(s.alignment.numpy() for s in sentences)),
            stopped=all(s.stopped for s in sentences),
            symbols=[self.tokenizer.symbols[i] for s in sentences for i in s.ids],
            warnings=[
                f"sentence {number}: {warning}" if several else warning
                for number, sentence in enumerate(sentences, 1)
                for warning in sentence.warnings
            ],
        )
