"""A trained voice: text in, waveform out.

A text is split into sentences, the sentences of all texts go through the network in batches of
similar length, and their waves are joined. S symbols, T mel frames, L decoder steps, M mels, F
linear bins, N samples.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from tacoskip.audio import FrontEnd
from tacoskip.config import Config
from tacoskip.messages import known
from tacoskip.models.durations import DURATIONS
from tacoskip.models.tacotron import Tacotron
from tacoskip.run_folder.exported import OnnxTacotron
from tacoskip.synthesis.alignment import alignment_warnings
from tacoskip.synthesis.long_text import (
    SENTENCE_BATCH,
    TEXT_PAUSE_SECONDS,
    Script,
    read_script,
    silence,
)
from tacoskip.synthesis.speech import (
    ATTENTION_LAG,
    LOWEST_LUFS,
    Speech,
    join_sentences,
    set_loudness,
    spoken_words,
    trim_ends,
)
from tacoskip.text import Tokenizer

# A sentence is cut at this many times the corpus' mean frames a symbol, and one second more.
LENGTH_FACTOR = 2.5
# Attention this long on the last symbol ends a sentence whose stop token failed. In recordings it
# rests there 0.08 s on average and 0.34 s at most (docs/explanation/experiments/phonemes.md).
REST_SECONDS = 0.5
LEAST_SPEED, HIGHEST_SPEED = 0.5, 2.0


class UnseenSymbols(UserWarning):
    """Symbols of a text that occur in none of the texts the voice was trained on."""


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
        self.lag_steps = 0.0 if config.tts.attention == DURATIONS else ATTENTION_LAG
        self.device = model.mel_mean.device
        self.tokenizer = Tokenizer(config.text)
        self.front_end = FrontEnd(config.audio)

    @property
    def sample_rate(self) -> int:
        return self.config.audio.sample_rate

    def synthesize(
        self,
        text: str | list[str],
        speaker: str | None = None,
        seed: int = 0,
        speed: float = 1.0,
        lexicon: Mapping[str, str] | None = None,
        trim: bool = False,
        lufs: float | None = None,
    ) -> "Speech | list[Speech]":
        """Synthesize one text (returns a Speech) or several together (returns a list).

        A text may hold `[pause 0.5s]`, `<break time="500ms"/>` and `[[phonemes]]`. speed: times
        as fast, 0.5 to 2, with the same pitch. lexicon: respellings by word, see `read_lexicon`.
        trim: cut the silence around each sentence. lufs: loudness by BS.1770, -70 to 0. The same
        arguments give the same samples. Raises ValueError for an unknown speaker, a control out of
        its range or a text without words. Warns of characters that the voice has no symbol for
        (DroppedCharacters) and of symbols it was not trained on (UnseenSymbols).
        """
        check_controls(speed, lufs)
        texts = [text] if isinstance(text, str) else list(text)
        scripts = [read_script(one, lexicon) for one in texts]
        ids = [each for script in scripts for each in self._encode(script)]
        written = [sentence for script in scripts for sentence in script.sentences]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # sentences of similar length
        done: dict[int, Speech] = {}
        for first in range(0, len(order), SENTENCE_BATCH):
            batch = order[first : first + SENTENCE_BATCH]
            sentences, linear = self._run(
                [written[i] for i in batch], [ids[i] for i in batch], speaker, speed
            )
            waves = self._invert(linear, seed)
            for i, sentence, wave in zip(batch, sentences, waves, strict=True):
                sentence.wave = wave
                if trim:
                    trim_ends(sentence)
                done[i] = sentence
        ready = iter(done[i] for i in range(len(ids)))
        speeches = [
            join_sentences(one, script, [next(ready) for _ in script.sentences])
            for one, script in zip(texts, scripts, strict=True)
        ]
        if lufs is not None:
            for speech in speeches:
                set_loudness(speech, lufs)
        return speeches[0] if isinstance(text, str) else speeches

    def stream(
        self,
        text: str | list[str],
        speaker: str | None = None,
        seed: int = 0,
        speed: float = 1.0,
        lexicon: Mapping[str, str] | None = None,
    ) -> Iterator[NDArray[np.float32]]:
        """Yield waves (N,) of sentences and pauses as they are ready, see `synthesize`."""
        check_controls(speed)
        for position, one in enumerate([text] if isinstance(text, str) else text):
            script = read_script(one, lexicon)
            script.pauses[0] += TEXT_PAUSE_SECONDS if position else 0.0
            sentences = zip(script.sentences, self._encode(script), script.pauses, strict=False)
            for number, (sentence, ids, pause) in enumerate(sentences, 1):
                yield silence(pause, self.sample_rate)
                (speech,), linear = self._run([sentence], [ids], speaker, speed)
                for warning in speech.warnings:
                    warnings.warn(f"sentence {number}: {warning}", stacklevel=2)
                yield from self._invert(linear, seed)
            yield silence(script.pauses[-1], self.sample_rate)

    def _encode(self, script: Script) -> list[list[int]]:
        sentences = self.tokenizer.encode_many(script.sentences)
        unseen = {i for ids in sentences for i in ids} - self.seen_symbols
        if self.seen_symbols and unseen:
            names = ", ".join(repr(self.tokenizer.symbols[i]) for i in sorted(unseen))
            warnings.warn(
                f"no training text has {names}: the voice may mispronounce it",
                UnseenSymbols,
                stacklevel=3,
            )
        return sentences

    def _run(
        self, sentences: list[str], ids: list[list[int]], speaker: str | None, speed: float
    ) -> tuple[list[Speech], list[Tensor]]:
        """Run the network over a batch of sentences and stretch what it predicts.

        Returns speeches without a wave, and the log10 magnitudes (T, F) that give it.
        """
        lengths = torch.tensor([len(one) for one in ids])
        second = self.config.audio.frames_per_second
        limits = (second + lengths * self.frames_per_symbol * LENGTH_FACTOR).long()
        symbols = pad_sequence([torch.tensor(one) for one in ids], batch_first=True)
        index = 0
        if speaker is not None:
            index = self.speakers.index(known("speaker", speaker, self.speakers))
        speakers = torch.full_like(lengths, index)
        self.model.eval()
        output = self.model.infer(
            symbols.to(self.device),
            lengths.to(self.device),
            speakers.to(self.device),
            limits.to(self.device),
            round(REST_SECONDS * second),
        )
        mel, linear = self.model.restore(output.mel, output.linear)
        reduction, speeches, magnitudes = self.model.reduction, list[Speech](), list[Tensor]()
        for row, (text, one) in enumerate(zip(sentences, ids, strict=True)):
            frames, stopped = int(output.mel_lengths[row]), bool(output.stopped[row])
            names = [self.tokenizer.symbols[i] for i in one]
            alignment = output.alignments[row, : -(-frames // reduction), : len(one)]
            weights = alignment.cpu().numpy()
            speech = Speech(
                text=text,
                wave=np.zeros(0, np.float32),
                sample_rate=self.sample_rate,
                mel=mel[row, :frames].cpu().numpy(),
                alignments=[weights],
                stopped=stopped,
                symbols=names,
                warnings=alignment_warnings(weights, stopped),
            )
            words = self.tokenizer.spoken(text).split()
            step = reduction / second / speed
            speech.words = spoken_words(weights, names, step, words, self.lag_steps)
            speeches.append(speech)
            magnitudes.append(stretch(linear[row, :frames], speed).cpu())
        return speeches, magnitudes

    def _invert(self, linear: list[Tensor], seed: int) -> list[NDArray[np.float32]]:
        """Return the waves (N,) of log10 magnitudes (T, F)."""
        padded = pad_sequence(linear, batch_first=True, padding_value=self.front_end.floor)
        lengths = torch.tensor([len(one) for one in linear])
        waves = self.front_end.to_wave(padded, lengths, self.config.griffin_lim, seed=seed)
        return [wave.numpy() for wave in waves]


def stretch(linear: Tensor, speed: float) -> Tensor:
    """Return magnitudes (T, F) with T / speed frames: other times, the same pitch."""
    if speed == 1:
        return linear
    frames = max(1, round(len(linear) / speed))
    return functional.interpolate(linear.T[None], frames, mode="linear", align_corners=True)[0].T


def check_controls(speed: float, lufs: float | None = None) -> None:
    """Raise ValueError for a control out of its range."""
    if not LEAST_SPEED <= speed <= HIGHEST_SPEED:
        raise ValueError(f"expected speed={LEAST_SPEED:g} to {HIGHEST_SPEED:g}, got {speed:g}")
    if lufs is not None and not LOWEST_LUFS <= lufs <= 0:
        raise ValueError(f"expected lufs={LOWEST_LUFS:g} to 0, got {lufs:g}")
