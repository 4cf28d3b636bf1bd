"""Clips into batches of tensors: samples read, features computed and kept.

B batch, S symbols, T frames, M mels, F linear bins.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
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
from tacoskip.data.storage import CONNECTIONS

Item = TypeVar("Item")

CACHE_BYTES = 2_000_000_000  # for features of clips that come again every epoch
CACHED_TEXTS = 50_000
STATISTICS_CLIPS = 1000  # clips that the statistics of a corpus are taken of


class Encoder(Protocol):
    """Turns a text into numbers: a `Tokenizer`'s symbols, a recognizer's tokens."""

    def encode(self, text: str, normalized: bool = False) -> list[int]: ...


@dataclass(frozen=True)
class Batch:
    """Utterances of similar length, padded with 0.

    symbols (B, S) and speakers (B,) are int64, mel (B, T, M) and linear (B, T, F) log10
    magnitudes, lengths (B,); F is 0 where no linear spectrogram was asked for. texts are the spoken
    words the symbols stand for.
    """

    symbols: Tensor
    symbol_lengths: Tensor
    mel: Tensor
    linear: Tensor
    mel_lengths: Tensor
    speakers: Tensor
    ids: list[str]
    texts: list[str]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Return the batch with its tensors on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return the batch in pinned memory, from which copies to a GPU need not be waited for."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {
            name: change(value) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **changed)

    def __len__(self) -> int:
        return len(self.ids)


class ClipFeatures:
    """Computes the features of utterances, from several threads at once if need be.

    Features of clips that come again unchanged every epoch are kept, up to CACHE_BYTES; of joined
    or augmented ones the 16-bit samples are. linear: whether the linear spectrogram is wanted.
    """

    def __init__(
        self, front_end: FrontEnd, linear: bool = True, augment: AugmentSettings | None = None
    ) -> None:
        self.front_end, self.linear = front_end, linear
        self.augment = augment if augment != AugmentSettings() else None
        self._cache: dict[str, Any] = {}
        self._free = CACHE_BYTES
        self._lock = threading.Lock()

    def fetch(self, utterances: Sequence[Clip | JoinedClips]) -> dict[str, bytes]:
        """Return the files of the clips that a server has and the cache lacks, by id."""
        clips = {c.id: c for u in utterances for _, c in u.parts if c.needs_fetching}
        clips = {id: clip for id, clip in clips.items() if id not in self._cache}
        if not clips:
            return {}
        with ThreadPoolExecutor(min(CONNECTIONS, len(clips)), "fetch") as pool:
            return dict(zip(clips, pool.map(Clip.content, clips.values()), strict=True))

    def __call__(
        self,
        utterance: Clip | JoinedClips,
        key: str = "",
        contents: Mapping[str, bytes] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return linear (T, F) and mel (T, M); CorpusError when a clip cannot be read.

        key: names the epoch's augmentation; "" augments nothing. contents: files fetched before.
        """
        try:
            return self._features(utterance, key, contents or {})
        except (CorpusError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # an error in a thread must name its clip
            ids = ", ".join(clip.id for _, clip in utterance.parts)
            cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise CorpusError(f"cannot load {ids}: {cause}") from error

    def _features(
        self, utterance: Clip | JoinedClips, key: str, contents: Mapping[str, bytes]
    ) -> tuple[Tensor, Tensor]:
        augment = self.augment if key else None
        changes = len(utterance.parts) > 1 or augment is not None
        cached = None if changes else self._cache.get(utterance.id)
        if isinstance(cached, tuple):
            return cached
        rate = self.front_end.settings.sample_rate
        waves = [
            (start, self._wave(clip, contents.get(clip.id), keep=changes))
            for start, clip in utterance.parts
        ]
        wave = join_waves(waves, rate, utterance.id)
        if augment:
            wave = perturbed(wave, rate, augment, f"{key} {utterance.id}")
        with torch.no_grad():
            linear, mel = self.front_end.features(torch.from_numpy(wave))
        if not self.linear:
            linear = linear[:, :0].clone()
        if not changes:
            self._keep(utterance.id, (linear, mel), linear.nbytes + mel.nbytes)
        return linear, mel

    def _wave(self, clip: Clip, content: bytes | None, keep: bool) -> NDArray[np.float32]:
        cached = self._cache.get(clip.id)
        if isinstance(cached, np.ndarray):
            return cached.astype(np.float32) / np.float32(32768)
        expected = self.front_end.settings.sample_rate
        try:
            if clip.sample_rate != expected:
                got = f"got {clip.sample_rate} Hz"
                raise ValueError(f"expected {clip.id} at {expected} Hz, {got}")
            wave = clip.load(content)
        except ValueError as error:
            raise CorpusError(f"{clip.id}: {error} (run: tacoskip prepare recipe=...)") from error
        if keep:
            pcm = np.round(wave * 32768).astype(np.int16)
            self._keep(clip.id, pcm, pcm.nbytes)
        return wave

    def _keep(self, id: str, value: Any, size: int) -> None:
        with self._lock:
            if size <= self._free and id not in self._cache:
                self._free -= size
                self._cache[id] = value


class Loader:
    """Makes a `Batch` of utterances, from several threads at once if need be."""

    def __init__(self, features: ClipFeatures, encoder: Encoder, speakers: Sequence[str]) -> None:
        self.features, self.encoder = features, encoder
        self.speakers = {name: index for index, name in enumerate(speakers)}
        self._symbols: dict[str, Tensor] = {}

    def batch(self, utterances: Sequence[Clip | JoinedClips], key: str = "") -> Batch:
        """Return the batch of these utterances, in their order; `key` names the augmentation.

        Raises CorpusError when a prepared clip cannot be used, ValueError on an unknown speaker;
        either names the clip.
        """
        contents = self.features.fetch(utterances)
        features = [self.features(utterance, key, contents) for utterance in utterances]
        symbols = [self._encode(utterance) for utterance in utterances]
        return Batch(
            symbols=pad_sequence(symbols, batch_first=True),
            symbol_lengths=torch.tensor([len(s) for s in symbols]),
            mel=pad_sequence([mel for _, mel in features], batch_first=True),
            linear=pad_sequence([linear for linear, _ in features], batch_first=True),
            mel_lengths=torch.tensor([len(mel) for _, mel in features]),
            speakers=torch.tensor([self._speaker(utterance) for utterance in utterances]),
            ids=[utterance.id for utterance in utterances],
            texts=[utterance.normalized for utterance in utterances],
        )

    def _speaker(self, utterance: Clip | JoinedClips) -> int:
        if utterance.speaker not in self.speakers:
            known = ", ".join(self.speakers)
            got = repr(utterance.speaker)
            raise ValueError(f"{utterance.id}: expected a speaker of {known}, got {got}")
        return self.speakers[utterance.speaker]

    def _encode(self, utterance: Clip | JoinedClips) -> Tensor:
        text = utterance.normalized
        symbols = self._symbols.get(text)
        if symbols is None:
            try:
                symbols = torch.tensor(self.encoder.encode(text, normalized=True)).long()
            except ValueError as error:
                raise CorpusError(f"{utterance.id}: {error}") from error
            if len(self._symbols) < CACHED_TEXTS:
                self._symbols[text] = symbols
        return symbols


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """Return at most `limit` of the items, evenly spread."""
    count = min(limit, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def clip_mels(
    clips: Sequence[Clip], front_end: FrontEnd, limit: int = STATISTICS_CLIPS
) -> Iterator[Tensor]:
    """Yield the log mels (T, M) of at most `limit` clips, evenly spread, without augmentation."""
    return (mel for _, mel in _features(ClipFeatures(front_end, linear=False), clips, limit))


def _features(
    features: ClipFeatures, clips: Sequence[Clip], limit: int
) -> Iterator[tuple[Tensor, Tensor]]:
    chosen = spread(clips, limit)
    for first in range(0, len(chosen), CONNECTIONS):
        group = chosen[first : first + CONNECTIONS]
        contents = features.fetch(group)
        yield from (features(clip, "", contents) for clip in group)


def feature_statistics(
    clips: Sequence[Clip], front_end: FrontEnd, limit: int = STATISTICS_CLIPS
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return mel mean and deviation (M,), linear mean and deviation (F,) over the clips' frames.

    limit: at most so many clips, evenly spread. Raises ValueError without clips.
    """
    if not len(clips):
        raise ValueError("expected at least one clip to take statistics of, got none")
    frames = 0
    sums: list[Tensor] = []
    for both in _features(ClipFeatures(front_end), clips, limit):
        linear, mel = (x.double() for x in both)
        new = [mel.sum(0), (mel**2).sum(0), linear.sum(0), (linear**2).sum(0)]
        sums = [a + b for a, b in zip(sums, new, strict=True)] if sums else new
        frames += len(mel)
    result = []
    for first, second in (sums[:2], sums[2:]):
        mean = first / frames
        deviation = (second / frames - mean**2).clamp_min(0).sqrt()
        # A band that is silent throughout (above a telephone's 4 kHz, say) must not divide by 0.
        result += [mean.float(), deviation.clamp_min(1e-2).float()]
    return result[0], result[1], result[2], result[3]
