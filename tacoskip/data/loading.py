"""Clips into batches of tensors: samples read, features computed and kept.

B batch, S symbols, T frames, M mels, F linear bins.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tacoskip.audio import FrontEnd
from tacoskip.data.clip import Clip, JoinedClips, join_waves
from tacoskip.data.errors import CorpusError
from tacoskip.data.perturbation import perturbed
from tacoskip.data.settings import AugmentSettings
from tacoskip.data.storage import CONNECTIONS, is_remote

Item = TypeVar("Item")
Utterance = Clip | JoinedClips

CACHE_BYTES = 2_000_000_000  # for features of clips that come again every epoch
CACHED_TEXTS = 50_000
STATISTICS_CLIPS = 1000  # clips that the statistics of a corpus are taken of
FULL_SCALE = 32768  # of 16-bit samples


class Encoder(Protocol):
    """Turns a text into numbers: a `Tokenizer`'s symbols, a recognizer's tokens."""

    def encode(self, text: str, normalized: bool = False) -> list[int]: ...


@dataclass(frozen=True)
class Batch:
    """Utterances of similar length, padded with 0.

    symbols (B, S) and speakers (B,) are int64, mel (B, T, M) and linear (B, T, F) log10
    magnitudes, lengths (B,); F is 0 where no linear spectrogram was asked for. texts are the spoken
    words the symbols stand for. durations (B, S): frames of each symbol, where they are known.
    samples (B, N), sample_lengths (B,): of a batch whose features are still to be computed, with
    M = F = 0; int16, or float32 where clips were joined or augmented.
    """

    symbols: Tensor
    symbol_lengths: Tensor
    mel: Tensor
    linear: Tensor
    mel_lengths: Tensor
    speakers: Tensor
    ids: list[str]
    texts: list[str]
    durations: Tensor | None = None
    samples: Tensor | None = None
    sample_lengths: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Return the batch with its tensors on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return the batch in pinned memory, from which copies to a GPU need not be waited for."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        values = vars(self).items()
        tensors: dict[str, Any] = {n: change(x) for n, x in values if isinstance(x, Tensor)}
        return replace(self, **tensors)

    def __len__(self) -> int:
        return len(self.ids)


class Loader:
    """Loads utterances and makes batches of them, from several threads at once if need be.

    Features of clips that come again unchanged every epoch are kept, up to CACHE_BYTES; of joined
    or augmented ones the 16-bit samples are. linear: whether the linear spectrogram is wanted.
    durations: frames (S,) of the symbols of clips by id, for batches that carry them.
    """

    durations: Mapping[str, Tensor] | None = None
    samples = False  # whether batches hold samples instead of features

    def __init__(
        self,
        front_end: FrontEnd,
        encoder: Encoder | None = None,
        speakers: Sequence[str] = (),
        linear: bool = True,
        augment: AugmentSettings | None = None,
    ) -> None:
        self.front_end, self.encoder, self.linear = front_end, encoder, linear
        self.speakers = {name: index for index, name in enumerate(speakers)}
        self.augment = augment if augment != AugmentSettings() else None
        self._cache: dict[str, Any] = {}
        self._free = CACHE_BYTES
        self._lock = threading.Lock()
        self._symbols = lru_cache(CACHED_TEXTS)(self._encode)

    def send_samples(self) -> None:
        """Make batches of samples from now on, and keep these instead of features."""
        self.samples = True
        self._cache.clear()
        self._free = 2 * CACHE_BYTES  # 24 hours at 22 kHz

    def batch(self, utterances: Sequence[Utterance], key: str = "") -> Batch:
        """Return the batch of these utterances, in their order; `key` names the augmentation.

        Raises CorpusError, which names the clip, when a prepared one cannot be used.
        """
        inputs = (self._sample_tensors if self.samples else self._feature_tensors)(utterances, key)
        symbols = [_named(each, self._symbols, each.normalized) for each in utterances]
        known = self.durations
        return Batch(
            symbols=pad_sequence(symbols, batch_first=True),
            symbol_lengths=torch.tensor([len(s) for s in symbols]),
            **inputs,
            speakers=torch.tensor([self.speakers[utterance.speaker] for utterance in utterances]),
            ids=[utterance.id for utterance in utterances],
            texts=[utterance.normalized for utterance in utterances],
            durations=None
            if known is None
            else pad_sequence([known[each.id] for each in utterances], batch_first=True),
        )

    def _feature_tensors(self, utterances: Sequence[Utterance], key: str) -> dict[str, Tensor]:
        features = self.features(utterances, key)
        return {
            "mel": pad_sequence([mel for _, mel in features], batch_first=True),
            "linear": pad_sequence([linear for linear, _ in features], batch_first=True),
            "mel_lengths": torch.tensor([len(mel) for _, mel in features]),
        }

    def _sample_tensors(self, utterances: Sequence[Utterance], key: str) -> dict[str, Tensor]:
        changes = any(self._changes(utterance, key) for utterance in utterances)
        load: Callable[..., NDArray[Any]] = self._wave if changes else self._pcm
        waves = [torch.from_numpy(wave) for wave in self._each(load, utterances, key)]
        samples = pad_sequence(waves, batch_first=True)
        lengths = torch.tensor([len(wave) for wave in waves])
        frames = 1 + lengths // self.front_end.settings.hop_length
        none = torch.empty(len(waves), int(frames.max()), 0)
        inputs = {"mel": none, "linear": none, "mel_lengths": frames}
        return inputs | {"samples": samples, "sample_lengths": lengths}

    def features(
        self, utterances: Sequence[Utterance], key: str = ""
    ) -> list[tuple[Tensor, Tensor]]:
        """Return linear (T, F) and mel (T, M) of each; CorpusError when a clip cannot be read.

        key: names the epoch's augmentation; "" augments nothing.
        """
        return self._each(self._features, utterances, key)

    def _each(
        self, load: Callable[..., Item], utterances: Sequence[Utterance], key: str
    ) -> list[Item]:
        """Load each utterance; clips that lie elsewhere are fetched together."""
        clips = {clip.id: clip for utterance in utterances for _, clip in utterance.parts}
        remote = [c for c in clips.values() if is_remote(c.source) and c.id not in self._cache]
        contents: dict[str, bytes] = {}
        if remote:
            with ThreadPoolExecutor(min(CONNECTIONS, len(remote)), "fetch") as pool:
                ids = (clip.id for clip in remote)
                contents = dict(zip(ids, pool.map(Clip.content, remote), strict=True))
        return [_named(each, load, each, key, contents) for each in utterances]

    def _changes(self, utterance: Utterance, key: str) -> bool:
        """Whether an utterance is joined or augmented, and so another one in every epoch."""
        return len(utterance.parts) > 1 or bool(self.augment and key)

    def _features(
        self, utterance: Utterance, key: str, contents: Mapping[str, bytes]
    ) -> tuple[Tensor, Tensor]:
        keep = not self._changes(utterance, key) and not self.samples
        cached = self._cache.get(utterance.id) if keep else None
        if isinstance(cached, tuple):
            return cached
        wave = self._wave(utterance, key, contents)
        linear, mel = self.front_end.features(torch.from_numpy(wave))
        if not self.linear:
            linear = linear[:, :0].clone()
        if keep:
            self._keep(utterance.id, (linear, mel), linear.nbytes + mel.nbytes)
        return linear, mel

    def _wave(
        self, utterance: Utterance, key: str, contents: Mapping[str, bytes]
    ) -> NDArray[np.float32]:
        """The samples (N,) of an utterance as it comes in this epoch."""
        rate = self.front_end.settings.sample_rate
        keep = self.samples or self._changes(utterance, key)
        waves = []
        for start, clip in utterance.parts:
            pcm = self._clip(clip, contents.get(clip.id), keep)
            waves.append((start, pcm.astype(np.float32) / np.float32(FULL_SCALE)))
        wave = join_waves(waves, rate, utterance.id)
        if self.augment and key:
            wave = perturbed(wave, rate, self.augment, f"{key} {utterance.id}")
        return wave

    def _pcm(
        self, utterance: Utterance, key: str, contents: Mapping[str, bytes]
    ) -> NDArray[np.int16]:
        """The 16-bit samples (N,) of an utterance that is one clip, as it was prepared."""
        ((_, clip),) = utterance.parts
        return self._clip(clip, contents.get(clip.id), keep=True)

    def _clip(self, clip: Clip, content: bytes | None, keep: bool) -> NDArray[np.int16]:
        cached = self._cache.get(clip.id)
        if isinstance(cached, np.ndarray):
            return cached
        expected = self.front_end.settings.sample_rate
        if clip.sample_rate != expected:
            raise ValueError(f"expected {expected} Hz, got {clip.sample_rate} Hz")
        pcm: NDArray[np.int16] = np.round(clip.load(content) * FULL_SCALE).astype(np.int16)
        if keep:
            self._keep(clip.id, pcm, pcm.nbytes)
        return pcm

    def _keep(self, id: str, value: Any, size: int) -> None:
        with self._lock:
            if size <= self._free and id not in self._cache:
                self._free -= size
                self._cache[id] = value

    def _encode(self, text: str) -> Tensor:
        assert self.encoder is not None
        return torch.tensor(self.encoder.encode(text, normalized=True)).long()


def _named(utterance: Utterance, function: Callable[..., Item], *arguments: Any) -> Item:
    """Call a function; an error in it, in a thread, must name the utterance's clips."""
    try:
        return function(*arguments)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        ids = ", ".join(clip.id for _, clip in utterance.parts)
        kind = "" if isinstance(error, CorpusError | ValueError) else f"{type(error).__name__}: "
        cause = f"{kind}{' '.join(str(error).split())}"
        raise CorpusError(
            f"cannot load {ids}: {cause} (run: tacoskip prepare recipe=...)"
        ) from error


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """Return at most `limit` of the items, evenly spread."""
    count = min(limit, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def features_of(loader: Loader, clips: Sequence[Clip]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield linear (T, F) and mel (T, M) of each clip, without augmentation."""
    for first in range(0, len(clips), CONNECTIONS):
        yield from loader.features(clips[first : first + CONNECTIONS])


def clip_mels(clips: Sequence[Clip], front_end: FrontEnd) -> Iterator[Tensor]:
    """Yield the log mels (T, M) of at most STATISTICS_CLIPS clips, evenly spread."""
    loader = Loader(front_end, linear=False)
    return (mel for _, mel in features_of(loader, spread(clips, STATISTICS_CLIPS)))


def feature_statistics(
    clips: Sequence[Clip], front_end: FrontEnd
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return mel mean and deviation (M,), linear mean and deviation (F,) over the clips' frames.

    At most STATISTICS_CLIPS of them, evenly spread. Raises ValueError without clips.
    """
    if not len(clips):
        raise ValueError("expected at least one clip to take statistics of, got none")
    frames = 0
    sums: list[Tensor] = []
    for both in features_of(Loader(front_end), spread(clips, STATISTICS_CLIPS)):
        linear, mel = (x.double() for x in both)
        new = [mel.sum(0), (mel**2).sum(0), linear.sum(0), (linear**2).sum(0)]
        sums = [a + b for a, b in zip(sums, new, strict=True)] if sums else new
        frames += len(mel)
    mel_mean, mel_square, linear_mean, linear_square = (x / frames for x in sums)
    return (*_moments(mel_mean, mel_square), *_moments(linear_mean, linear_square))


def _moments(mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
    # A band that is silent throughout (above a telephone's 4 kHz, say) must not divide by 0.
    deviation = (square - mean**2).clamp_min(0).sqrt()
    return mean.float(), deviation.float().clamp_min(1e-2)
