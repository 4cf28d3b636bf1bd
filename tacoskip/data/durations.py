"""How long each symbol of a text is spoken: forced alignment of recordings, learned from them.

Every symbol that has a sound is a left-to-right hidden Markov model of a few states, pauses are one
state that may be skipped; each state is a Gaussian over cepstra. Starting from symbols of equal
length, the best path (Viterbi) and the Gaussians are re-estimated in turn: the flat start of HTK
(Young et al., The HTK Book). Deterministic, a few seconds for an hour of speech.

T frames, M mels, S symbols, N states of a text, D features.
"""

import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacoskip.audio.phase import compiled
from tacoskip.data.clip import Clip
from tacoskip.data.errors import CorpusError
from tacoskip.data.loading import Loader, features_of, spread
from tacoskip.files import user_cache, whole_file
from tacoskip.text import Tokenizer

Float = NDArray[np.float32]

STATES = 3  # of a symbol's model
CEPSTRA = 13
ITERATIONS = 10
FITTED_CLIPS = 1000  # clips that the Gaussians are estimated on
PRIOR_FRAMES = 10.0  # of variance 1, that each Gaussian's variance starts from
LEAST_VARIANCE = 0.05
QUIET = 0.35  # of the way from the quietest to the loudest frame: below it, a clip's ends are pause


def symbol_durations(
    clips: Sequence[Clip], loader: Loader, tokenizer: Tokenizer
) -> dict[str, Tensor]:
    """Return the frames (S,) of each symbol of each clip's text by the clip's id; they sum to T.

    Silence before the first symbol counts to it. A clip with more states than frames is divided
    evenly. They are kept in the user's cache, in a file named by all that they follow from: the
    runs of an ablation align the same clips.
    """
    texts = tokenizer.encode_many([clip.normalized for clip in clips], normalized=True)
    lengths = [len(ids) for ids in texts]
    digest = sha256(repr((loader.front_end.settings, tokenizer.symbols)).encode())
    for source in (Path(__file__), *sorted(Path(__file__).parents[1].glob("audio/*.py"))):
        digest.update(source.read_bytes())
    for clip, ids in zip(clips, texts, strict=True):
        recording = clip.span or zlib.crc32(clip.content())
        digest.update(repr((clip.id, clip.speaker, ids, recording)).encode())
    name = f"durations-{digest.hexdigest()[:16]}.npy"
    try:
        frames = np.load(user_cache() / name)
    except (OSError, ValueError, EOFError):
        frames = np.concatenate(_align(clips, texts, loader, tokenizer.symbols))
        with suppress(OSError), whole_file(user_cache() / name) as part, part.open("wb") as file:
            np.save(file, frames)
    parts = torch.from_numpy(frames).split(lengths)
    return {clip.id: part for clip, part in zip(clips, parts, strict=True)}


def _align(
    clips: Sequence[Clip], texts: list[list[int]], loader: Loader, symbols: Sequence[str]
) -> list[NDArray[np.int64]]:
    """Estimate the models on some of the clips, and find the frames (S,) of each text's symbols."""
    models = Models(symbols)
    of = {clip.id: (clip.speaker, ids) for clip, ids in zip(clips, texts, strict=True)}
    some = spread(clips, FITTED_CLIPS)
    mels = (mel.numpy() for _, mel in features_of(loader, some))
    fitted = {clip.id: _features(mel) for clip, mel in zip(some, mels, strict=True)}
    groups = defaultdict[str, list[Float]](list)
    for id, features in fitted.items():
        groups[of[id][0]].append(features)
    moments = {name: _moments(several) for name, several in groups.items()}
    whole = _moments(list(fitted.values()))

    def scaled(id: str, features: Float) -> Float:
        """Give a speaker's features mean 0 and deviation 1."""
        mean, deviation = moments.get(of[id][0], whole)
        return (features - mean) / deviation

    models.fit([(scaled(id, features), of[id][1]) for id, features in fitted.items()])
    return [
        models.durations(scaled(clip.id, _features(mel.numpy())), of[clip.id][1])
        for clip, (_, mel) in zip(clips, features_of(loader, clips), strict=True)
    ]


def _features(mel: Float) -> Float:
    """Cepstra and their slopes: log10 mel (T, M) -> (T, D)."""
    from scipy.fft import dct

    cepstra = dct(mel, axis=1)[:, :CEPSTRA].astype(np.float32)
    padded = np.pad(cepstra, ((2, 2), (0, 0)), mode="edge")
    slopes = (2 * padded[4:] + padded[3:-1] - padded[1:-3] - 2 * padded[:-4]) / 10
    return np.concatenate([cepstra, slopes], 1)


def _moments(several: list[Float]) -> tuple[Float, Float]:
    frames = np.concatenate(several)
    return frames.mean(0), frames.std(0) + 1e-6


class Models:
    """The Gaussians of a table of symbols; state 0 is the pause."""

    def __init__(self, symbols: Sequence[str]) -> None:
        kinds = [unicodedata.category(symbol[0]) for symbol in symbols]
        # Stress, length and tone marks have no sound of their own.
        self.marks = {i for i, kind in enumerate(kinds) if kind in ("Lm", "Mn", "Sk", "Nd", "Sm")}
        self.sounds = {i for i, kind in enumerate(kinds) if kind in ("Ll", "Lu", "Lo")}
        self.count = 1 + len(symbols) * STATES
        self.mean = self.inverse = self.constant = np.zeros(0, np.float32)

    def states(self, symbols: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the states (N,) of a text and the position of the symbol each belongs to."""
        chain, owner = [0], [0]
        for position, symbol in enumerate(symbols):
            if symbol in self.sounds:
                chain += range(1 + symbol * STATES, 1 + (symbol + 1) * STATES)
                owner += [position] * STATES
            elif symbol not in self.marks:
                chain.append(0)
                owner.append(position)
        return np.array(chain), np.array(owner)

    def fit(self, clips: list[tuple[Float, Sequence[int]]]) -> None:
        """Estimate the Gaussians from clips: features (T, D) and symbols."""
        pairs = [(features, self.states(symbols)[0]) for features, symbols in clips]
        pairs = [(x, chain) for x, chain in pairs if len(x) >= (chain > 0).sum() > 0]
        if not pairs:
            raise CorpusError("expected clips longer than their texts to align, found none")
        frames = torch.from_numpy(np.concatenate([features for features, _ in pairs]))
        states = [chain[_even_path(features, chain)] for features, chain in pairs]
        for _ in range(ITERATIONS):
            self._estimate(frames, torch.from_numpy(np.concatenate(states)))
            states = [chain[self.path(features, chain)] for features, chain in pairs]

    def _estimate(self, frames: Tensor, states: Tensor) -> None:
        """Take mean and variance of each state: frames (T, D), states (T,)."""
        count = torch.bincount(states, minlength=self.count)[:, None].double()
        total, squares = (
            torch.zeros(self.count, frames.shape[1], dtype=torch.double).index_add_(0, states, x)
            for x in (frames.double(), frames.double().square())
        )
        mean = total / count.clamp(min=1)
        spread = squares - count * mean**2 + PRIOR_FRAMES
        variance = (spread / (count + PRIOR_FRAMES)).clamp(min=LEAST_VARIANCE)
        self.mean, self.inverse = mean.float().numpy(), (1 / variance).float().numpy()
        self.constant = (-variance.log().sum(1) / 2).float().numpy()

    def path(self, features: Float, chain: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the likeliest place in the chain of states of each frame (T,)."""
        mean, inverse = self.mean[chain], self.inverse[chain]
        distance = (
            features**2 @ inverse.T - 2 * features @ (mean * inverse).T + (mean**2 * inverse).sum(1)
        )
        best: NDArray[np.int64] = compiled(_best_path)(
            self.constant[chain] - distance / 2, chain == 0
        )
        return best

    def durations(self, features: Float, symbols: Sequence[int]) -> NDArray[np.int64]:
        """Return the frames (S,) of each symbol of a clip."""
        chain, owner = self.states(symbols)
        if len(features) >= (chain > 0).sum():
            return np.bincount(owner[self.path(features, chain)], minlength=len(symbols))
        ends = np.arange(len(symbols) + 1) * len(features) // len(symbols)
        return np.diff(ends)


def _even_path(features: Float, chain: NDArray[np.int64]) -> NDArray[np.int64]:
    """Divide the frames between the first and the last loud one evenly, pauses left out."""
    energy = features[:, 0]
    loud = np.flatnonzero(energy > energy.min() + QUIET * (energy.max() - energy.min()))
    first, last = (loud[0], loud[-1] + 1) if len(loud) else (0, len(energy))
    sounds = np.flatnonzero(chain > 0)
    path = np.full(len(energy), len(chain) - 1)
    path[:first] = 0
    path[first:last] = sounds[np.arange(last - first) * len(sounds) // (last - first)]
    return path


def _best_path(likelihood: Float, optional: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The best way through all states but optional ones: likelihood (T, N), optional (N,) -> (T,).

    A loop for numba. From a state a path goes to itself, to the next, or beyond optional ones.
    """
    frames, states = likelihood.shape
    before = np.zeros((frames, states), np.int64)
    score = np.full(states, -np.inf)
    for state in range(states):
        score[state] = likelihood[0, state]
        if not optional[state]:
            break
    for frame in range(1, frames):
        for state in range(states - 1, -1, -1):  # downwards: lower ones are of the frame before
            source = state
            for earlier in range(state - 1, -1, -1):
                if score[earlier] > score[source]:
                    source = earlier
                if not optional[earlier]:
                    break
            score[state] = score[source] + likelihood[frame, state]
            before[frame, state] = source
    last = states - 1
    for end in range(states - 1, 0, -1):
        if not optional[end]:
            break
        if score[end - 1] > score[last]:
            last = end - 1
    path = np.empty(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = last
        last = before[frame, last]
    return path
