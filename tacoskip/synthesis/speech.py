"""Synthesized speech: the sentences of a text joined to one wave, with the times of their words.

N samples, T mel frames, L decoder steps, S symbols, M mels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tacoskip.audio.loudness import loudness
from tacoskip.audio.trim import trim_silence
from tacoskip.synthesis.alignment import monotonic_path
from tacoskip.synthesis.long_text import Script, join_waves
from tacoskip.timed_words import Word

HIGHEST_PEAK = 0.99  # of a wave that is made louder
LOWEST_LUFS = -70.0
ATTENTION_LAG = 0.5  # steps; measured against forced alignment of the wave. Durations have none.

Array = NDArray[np.float32]


@dataclass
class Speech:
    """A synthesized text: wave (N,), mel (T, M) log10 magnitude, of each sentence the attention
    (L, S) to its symbols.

    stopped: every sentence ended by itself. warnings: what went wrong. sentences, words: with
    their seconds in the wave, from the attention.
    """

    text: str
    wave: Array
    sample_rate: int
    mel: Array
    alignments: list[Array]
    stopped: bool
    symbols: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sentences: list[Word] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.sample_rate

    @property
    def alignment(self) -> Array:
        """The attention to the symbols of all sentences, a matrix that grows with their square."""
        from scipy.linalg import block_diag

        return np.asarray(block_diag(*self.alignments))


def spoken_words(
    alignment: Array,
    symbols: Sequence[str],
    step_seconds: float,
    words: Sequence[str],
    lag_steps: float = ATTENTION_LAG,
) -> list[Word]:
    """Return the words of a sentence with their seconds, by the attention (L, S) to its symbols.

    A symbol begins `lag_steps` after the step in which attention first reaches it. words: how they
    are written; those that espeak speaks as one ("in the") share its time by their letters.
    """
    path = monotonic_path(np.nan_to_num(alignment.astype(np.float64)))
    edges = np.arange(len(symbols) + 1)
    starts = (np.searchsorted(path, edges) + lag_steps) * step_seconds
    gaps = [i for i, symbol in enumerate(symbols) if symbol == " "]
    spans = list(zip([0, *(i + 1 for i in gaps)], [*gaps, len(symbols) - 1], strict=True))
    if len(words) < len(spans):
        words = ["".join(symbols[first:last]) for first, last in spans]
    letters = np.cumsum([0, *map(len, words)]) / sum(map(len, words))
    reached = np.cumsum([last - first for first, last in spans])
    found, cut = [], 0
    for number, (first, last) in enumerate(spans, 1):
        least, most = cut + 1, len(words) - (len(spans) - number)
        distance = np.abs(letters[least : most + 1] - reached[number - 1] / reached[-1])
        following = most if number == len(spans) else least + int(distance.argmin())
        ends = letters[[cut, following]]
        positions = np.interp(letters[cut : following + 1], ends, [first, last])
        times = np.interp(positions, edges, starts)
        for text, start, end in zip(words[cut:following], times, times[1:], strict=False):
            if any(c.isalnum() for c in text):
                written = text.replace("[[", "").replace("]]", "")
                found.append(Word(written, float(start), float(end)))
        cut = following
    return found


def shifted(words: Sequence[Word], seconds: float, length: float = np.inf) -> list[Word]:
    """Return words that begin and end so many seconds later, within 0..length."""

    def move(at: float) -> float:
        return float(np.clip(at + seconds, 0.0, length))

    return [replace(word, start=move(word.start), end=move(word.end)) for word in words]


def join_sentences(text: str, script: Script, sentences: list[Speech]) -> Speech:
    """Return the sentences of one text as one speech."""
    several = len(sentences) > 1
    rate = sentences[0].sample_rate
    speech = Speech(
        text=text,
        wave=join_waves([s.wave for s in sentences], rate, script.pauses),
        sample_rate=rate,
        mel=np.concatenate([s.mel for s in sentences]),
        alignments=[one for s in sentences for one in s.alignments],
        stopped=all(s.stopped for s in sentences),
        symbols=[symbol for s in sentences for symbol in s.symbols],
        warnings=[
            f"sentence {number}: {warning}" if several else warning
            for number, s in enumerate(sentences, 1)
            for warning in s.warnings
        ],
    )
    at = 0.0
    for pause, sentence in zip(script.pauses, sentences, strict=False):
        start = at + pause
        at = start + sentence.seconds
        speech.sentences.append(Word(sentence.text, start, at))
        speech.words += shifted(sentence.words, start, at)
    return speech


def trim_ends(speech: Speech) -> None:
    """Cut the silence at both ends."""
    start, end = trim_silence(speech.wave, speech.sample_rate)
    speech.wave = speech.wave[start:end]
    speech.words = shifted(speech.words, -start / speech.sample_rate, speech.seconds)


def set_loudness(speech: Speech, lufs: float) -> None:
    """Make a speech as loud as `lufs` says, or as its peaks allow, with a warning."""
    level = loudness(speech.wave, speech.sample_rate)
    if not np.isfinite(level):
        return
    gain = 10 ** ((lufs - level) / 20)
    highest = HIGHEST_PEAK / float(np.abs(speech.wave).max())
    if gain > highest:
        reached = lufs + 20 * np.log10(highest / gain)
        speech.warnings.append(f"peaks allow {reached:.1f} LUFS at most, not {lufs:g}")
    speech.wave = (speech.wave * min(gain, highest)).astype(np.float32)
