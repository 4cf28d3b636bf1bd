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

from tacoskip.audio import FrontEnd, GriffinLimStream
from tacoskip.config import Config
from tacoskip.messages import nearest
from tacoskip.models.tacotron import Tacotron, TacotronOutput
from tacoskip.run_folder.exported import OnnxTacotron
from tacoskip.synthesis.long_text import Script, batches_by_length, read_script, silence
from tacoskip.synthesis.speech import (
    LOWEST_LUFS,
    Sentence,
    Speech,
    join_sentences,
    spoken_words,
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
        done: dict[int, Sentence] = {}
        for batch in batches_by_length(ids):
            chosen = [written[i] for i in batch]
            sentences = self._run(chosen, [ids[i] for i in batch], speaker, speed)
            self._invert(sentences, seed, trim)
            done |= zip(batch, sentences, strict=True)
        ready = iter(done[i] for i in range(len(ids)))
        speeches = [
            join_sentences(
                one, script, [next(ready) for _ in script.sentences], self.sample_rate, lufs
            )
            for one, script in zip(texts, scripts, strict=True)
        ]
        return speeches[0] if isinstance(text, str) else speeches

    def stream(
        self,
        text: str,
        speaker: str | None = None,
        seed: int = 0,
        chunk_seconds: float = 0.5,
        speed: float = 1.0,
        lexicon: Mapping[str, str] | None = None,
    ) -> Iterator[NDArray[np.float32]]:
        """Synthesize sentence by sentence: yields waves (N,) as they are ready.

        The phase continues from one wave of a sentence to the next. See `synthesize`.
        """
        step = max(1, round(chunk_seconds * self.config.audio.frames_per_second))
        check_controls(speed)
        script = read_script(text, lexicon)
        sentences = zip(script.sentences, self._encode(script), script.pauses, strict=False)
        for number, (one, ids, pause) in enumerate(sentences, 1):
            if pause:
                yield silence(pause, self.sample_rate)
            (sentence,) = self._run([one], [ids], speaker, speed)
            for warning in sentence.warnings:
                warnings.warn(f"sentence {number}: {warning}", stacklevel=2)
            inversion = GriffinLimStream(self.config.audio, self.config.griffin_lim, seed=seed)
            for start in range(0, len(sentence.linear), step):
                yield inversion.push(sentence.linear[start : start + step])
            yield inversion.flush()
        if script.pauses[-1]:
            yield silence(script.pauses[-1], self.sample_rate)

    def _encode(self, script: Script) -> list[list[int]]:
        """Return the symbols of each sentence."""
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

    def _speaker_index(self, speaker: str | None) -> int:
        if speaker is None:
            return 0
        if speaker not in self.speakers:
            hint = f"{nearest(speaker, self.speakers)} (known: {', '.join(self.speakers)})"
            raise ValueError(f"unknown speaker '{speaker}'{hint}")
        return self.speakers.index(speaker)

    def _run(
        self, sentences: list[str], ids: list[list[int]], speaker: str | None, speed: float
    ) -> list[Sentence]:
        """Run the network over a batch of sentences and stretch what it predicts."""
        self.model.eval()
        output = self._infer(ids, self._speaker_index(speaker))
        mel, linear = self.model.restore(output.mel, output.linear)
        step_seconds = self.model.reduction / self.config.audio.frames_per_second / speed
        done = []
        for row, (text, symbols) in enumerate(zip(sentences, ids, strict=True)):
            frames = int(output.mel_lengths[row])
            steps = -(-frames // self.model.reduction)
            names = [self.tokenizer.symbols[i] for i in symbols]
            alignment = output.alignments[row, :steps, : len(symbols)].cpu().numpy()
            words = self.tokenizer.spoken(text).split()
            done.append(
                Sentence(
                    text,
                    names,
                    mel[row, :frames].cpu().numpy(),
                    stretch(linear[row, :frames], speed).cpu(),
                    alignment,
                    bool(output.stopped[row]),
                    spoken_words(alignment, names, step_seconds, words),
                )
            )
        return done

    def _invert(self, sentences: list[Sentence], seed: int, trim: bool) -> None:
        """Give a batch of sentences their waves in place of their magnitudes."""
        linear = pad_sequence(
            [s.linear for s in sentences], batch_first=True, padding_value=self.front_end.floor
        )
        lengths = torch.tensor([len(s.linear) for s in sentences])
        waves = self.front_end.to_wave(linear, lengths, self.config.griffin_lim, seed=seed)
        for sentence, wave in zip(sentences, waves, strict=True):
            sentence.wave, sentence.linear = wave.cpu().numpy(), torch.zeros(0)
            if trim:
                sentence.trim(self.sample_rate)

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
