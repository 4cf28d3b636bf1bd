"""Cuts into batches of tensors: samples read, features computed and kept.

B batch, S symbols, T frames, M mels, F linear bins.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tacoskip.audio import FrontEnd
from tacoskip.data.errors import CorpusError
from tacoskip.data.joining import join_waves, parts, spoken
from tacoskip.data.perturbation import perturbed
from tacoskip.data.places import is_url
from tacoskip.data.settings import AugmentSettings
from tacoskip.data.shards import CONNECTIONS, clip_bytes, clip_wave, in_shard

if TYPE_CHECKING:
    from lhotse.cut import Cut

Item = TypeVar("Item")

# Clips that the statistics of a corpus are taken of.
STATISTICS_CLIPS = 1000
# Texts whose symbols are kept.
TEXTS = 50_000


class Encoder(Protocol):
    """What turns a text into numbers: a `Tokenizer`'s symbols, a recognizer's units."""

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
        moved = {
            field.name: getattr(self, field.name).to(device, non_blocking=non_blocking)
            for field in fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    def __len__(self) -> int:
        return len(self.ids)


class ClipFeatures:
    """Computes the features of cuts, from several threads at once if need be.

    Features of clips that come again every epoch as they are are kept, up to `cache_mb`; of joined
    or augmented ones the 16-bit samples are. linear: whether the linear spectrogram is wanted.
    Clips on a web server can be asked for ahead, several at a time.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        cache_mb: float = 0.0,
        linear: bool = True,
        augment: AugmentSettings | None = None,
    ) -> None:
        self.front_end, self.linear = front_end, linear
        self.augment = augment if augment != AugmentSettings() else None
        self.sample_rate = front_end.settings.sample_rate
        self._cache: dict[str, Any] = {}
        self._room = int(cache_mb * 1e6)
        self._lock = threading.Lock()
        self._fetching: dict[str, Future[bytes]] = {}
        self._fetchers: ThreadPoolExecutor | None = None

    def ahead(self, cuts: Iterable["Cut"]) -> None:
        """Begin to fetch the cuts that lie on a web server; each must be asked for later on."""
        for cut in cuts:
            for _, part in parts(cut):
                if not in_shard(part) or not is_url(part.recording.sources[0].source):
                    continue
                with self._lock:
                    if part.id in self._cache or part.id in self._fetching:
                        continue
                    if self._fetchers is None:
                        self._fetchers = ThreadPoolExecutor(CONNECTIONS, "fetch")
                    self._fetching[part.id] = self._fetchers.submit(clip_bytes, part)

    def close(self) -> None:
        """Stop fetching ahead, and drop what was fetched. It may be used again."""
        with self._lock:
            fetchers, self._fetchers = self._fetchers, None
            self._fetching = {}
        if fetchers is not None:
            fetchers.shutdown(wait=True, cancel_futures=True)

    def __call__(self, cut: "Cut", key: str = "") -> tuple[Tensor, Tensor]:
        """Return linear (T, F) and mel (T, M) of a cut; CorpusError when it cannot be read.

        key: names the epoch's augmentation; "" augments nothing.
        """
        try:
            return self._features(cut, key)
        except (CorpusError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever fails in a thread is of no use without its clip
            ids = ", ".join(part.id for _, part in parts(cut))
            cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise CorpusError(f"cannot load {ids}: {cause}") from error

    def _features(self, cut: "Cut", key: str) -> tuple[Tensor, Tensor]:
        pieces = parts(cut)
        augment = self.augment if key else None
        changes = len(pieces) > 1 or augment is not None
        known = None if changes else self._cache.get(cut.id)
        if isinstance(known, tuple):
            self._fetched(cut.id)
            return known
        waves = [(second, self._wave(part, keep=changes)) for second, part in pieces]
        wave = join_waves(waves, self.sample_rate, cut.id)
        if augment:
            wave = perturbed(wave, self.sample_rate, augment, f"{key} {cut.id}")
        with torch.no_grad():
            linear, mel = self.front_end.features(torch.from_numpy(wave))
        if not self.linear:
            linear = linear[:, :0].clone()
        if not changes:
            self._keep(cut.id, (linear, mel), linear.nbytes + mel.nbytes)
        return linear, mel

    def _wave(self, cut: Any, keep: bool) -> NDArray[np.float32]:
        fetched, known = self._fetched(cut.id), self._cache.get(cut.id)
        if isinstance(known, np.ndarray):
            return known.astype(np.float32) / np.float32(32768)
        try:
            wave, rate = clip_wave(cut, fetched.result() if fetched else None)
        except ValueError as error:
            raise CorpusError(f"{cut.id}: {error} (run: tacoskip prepare recipe=...)") from error
        if rate != self.sample_rate:
            raise CorpusError(
                f"expected {cut.id} at {self.sample_rate} Hz, got {rate} Hz "
                "(run: tacoskip prepare recipe=...)"
            )
        if keep:
            pcm = np.round(wave * 32768).astype(np.int16)
            self._keep(cut.id, pcm, pcm.nbytes)
        return wave

    def _fetched(self, id: str) -> "Future[bytes] | None":
        with self._lock:
            return self._fetching.pop(id, None)

    def _keep(self, id: str, value: Any, size: int) -> None:
        with self._lock:
            if size <= self._room and id not in self._cache:
                self._room -= size
                self._cache[id] = value


class Loader:
    """Makes a `Batch` of cuts, from several threads at once if need be."""

    def __init__(
        self,
        front_end: FrontEnd,
        tokenizer: Encoder,
        speakers: Sequence[str],
        cache_mb: float = 0.0,
        linear: bool = True,
        augment: AugmentSettings | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.features = ClipFeatures(front_end, cache_mb, linear, augment)
        self.speakers = {name: index for index, name in enumerate(speakers)}
        self._symbols: dict[str, Tensor] = {}

    def batch(self, cuts: Iterable["Cut"], key: str = "") -> Batch:
        """Return the batch of these cuts, in their order; `key` names the augmentation.

        Raises CorpusError when a prepared clip cannot be used, ValueError on an unknown speaker;
        either names the clip.
        """
        cuts = list(cuts)
        self.features.ahead(cuts)
        features = [self.features(cut, key) for cut in cuts]
        texts = [spoken(cut) for cut in cuts]
        symbols = [self._encode(cut, text) for cut, text in zip(cuts, texts, strict=True)]
        return Batch(
            symbols=pad_sequence(symbols, batch_first=True),
            symbol_lengths=torch.tensor([len(s) for s in symbols]),
            mel=pad_sequence([mel for _, mel in features], batch_first=True),
            linear=pad_sequence([linear for linear, _ in features], batch_first=True),
            mel_lengths=torch.tensor([len(mel) for _, mel in features]),
            speakers=torch.tensor([self._speaker(cut) for cut in cuts]),
            ids=[cut.id for cut in cuts],
            texts=texts,
        )

    def _speaker(self, cut: "Cut") -> int:
        name = parts(cut)[0][1].supervisions[0].speaker
        if name not in self.speakers:
            known = ", ".join(self.speakers)
            raise ValueError(f"{cut.id}: expected a speaker of {known}, got {name!r}")
        return self.speakers[name]

    def _encode(self, cut: "Cut", text: str) -> Tensor:
        symbols = self._symbols.get(text)
        if symbols is None:
            try:
                symbols = torch.tensor(self.tokenizer.encode(text, normalized=True)).long()
            except ValueError as error:
                raise CorpusError(f"{cut.id}: {error}") from error
            if len(self._symbols) < TEXTS:
                self._symbols[text] = symbols
        return symbols


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """Return at most `limit` of the items, evenly spread."""
    count = min(limit, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def clip_mels(
    cuts: Sequence["Cut"], front_end: FrontEnd, limit: int = STATISTICS_CLIPS
) -> Iterator[Tensor]:
    """Yield the log mels (T, M) of at most `limit` clips, evenly spread, as they were recorded."""
    return (mel for _, mel in _features(ClipFeatures(front_end, linear=False), cuts, limit))


def _features(
    features: ClipFeatures, cuts: Sequence["Cut"], limit: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the features of at most `limit` cuts, evenly spread; some are fetched ahead."""
    chosen = spread(cuts, limit)
    for number, cut in enumerate(chosen):
        if number % CONNECTIONS == 0:
            features.ahead(chosen[number : number + 2 * CONNECTIONS])
        yield features(cut)
    features.close()


def feature_statistics(
    cuts: Sequence["Cut"], front_end: FrontEnd, limit: int = STATISTICS_CLIPS
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return mel mean and deviation (M,), linear mean and deviation (F,) over the clips' frames.

    limit: at most so many clips, evenly spread over `cuts`. Raises ValueError without cuts.
    """
    if not len(cuts):
        raise ValueError("expected at least one clip to take statistics of, got none")
    frames = 0
    sums: list[Tensor] = []
    for both in _features(ClipFeatures(front_end), cuts, limit):
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
