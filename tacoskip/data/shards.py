"""A prepared corpus as lhotse Shar, read in place: from a folder, or from a web server.

PLACE/shards.json                            settings, speakers, and each shard's size and checksum
PLACE/index/SPLIT.000000.jsonl.gz            what is in shard 0 of a split, a line a clip
PLACE/SPLIT/cuts.000000.jsonl.gz, recording.000000.tar      lhotse Shar; SPLIT is a split's name

The index is read once, and held; each clip is one span of its shard, read when it is wanted. No
name of a file is read from what a stranger wrote: shards are numbered.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from tacoskip.audio import decode_audio, read_audio
from tacoskip.data.errors import CorpusError
from tacoskip.data.places import file_of, is_url, read_span, read_whole, shown
from tacoskip.data.split import SPLITS

if TYPE_CHECKING:
    from lhotse import MonoCut
    from lhotse.cut import Cut

FORMAT = "tacoskip shards 1"
HEADER = "shards.json"
CONNECTIONS = 32

# What no shard of ours exceeds: bytes of the header, of an index, unpacked and as it lies there.
MOST_HEADER, MOST_INDEX = 1 << 28, 1 << 26


def index_name(split: str, number: int) -> str:
    return f"index/{split}.{number:06d}.jsonl.gz"


def cuts_name(split: str, number: int) -> str:
    return f"{split}/cuts.{number:06d}.jsonl.gz"


def sound_name(split: str, number: int) -> str:
    return f"{split}/recording.{number:06d}.tar"


def are_shards(place: str) -> bool:
    """Whether a place is one of shards: a web server, or a folder with their header."""
    return is_url(place) or (bool(place) and Path(place, HEADER).is_file())


def checksum(content: bytes) -> str:
    """Return the 16 hexadecimal digits by which a header knows an index."""
    return sha256(content).hexdigest()[:16]


class ShardCuts(Sequence["MonoCut"]):
    """The clips of a split, held as the lines of their index; cuts are made on the way out.

    A line takes about a tenth of its cut's memory. seconds: durations (n,).
    """

    def __init__(
        self, shards: list["_Shard"], rate: int, speakers: list[str], kept: NDArray[np.int64]
    ) -> None:
        self._shards, self._rate, self._speakers, self._kept = shards, rate, speakers, kept
        self._firsts = np.cumsum([0, *(len(shard.samples) for shard in shards)])

    @property
    def seconds(self) -> NDArray[np.float64]:
        samples = [shard.samples for shard in self._shards]
        return (np.concatenate(samples)[self._kept] if samples else np.zeros(0)) / self._rate

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> "MonoCut": ...

    @overload
    def __getitem__(self, index: slice) -> "ShardCuts": ...

    def __getitem__(self, index: int | slice) -> "MonoCut | ShardCuts":
        if isinstance(index, slice):
            return self.pick(range(*index.indices(len(self))))
        shard, row = self._row(index)
        return self._cut(shard, row)

    def __iter__(self) -> Iterator["MonoCut"]:
        return (self[index] for index in range(len(self)))

    def ids(self) -> Iterator[str]:
        """Yield the clips' ids."""
        return (self._row(index)[1][0] for index in range(len(self)))

    def pick(self, indices: Iterable[int]) -> "ShardCuts":
        """Return the clips of these positions."""
        kept = self._kept[np.fromiter(indices, np.int64)]
        return ShardCuts(self._shards, self._rate, self._speakers, kept)

    def filter(self, predicate: Callable[["MonoCut"], bool]) -> "ShardCuts":
        """Return the clips of which `predicate` is true, as CutSet.filter does."""
        return self.pick(index for index, cut in enumerate(self) if predicate(cut))

    def to_eager(self) -> "ShardCuts":
        """Return itself: `filter` has done its work."""
        return self

    def _row(self, index: int) -> tuple["_Shard", list[Any]]:
        place = int(self._kept[index])
        number = int(np.searchsorted(self._firsts, place, side="right")) - 1
        shard = self._shards[number]
        return shard, shard.row(place - int(self._firsts[number]))

    def _cut(self, shard: "_Shard", row: list[Any]) -> "MonoCut":
        from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

        id, speaker, text, normalized, samples, offset, size, crc = row
        seconds = samples / self._rate
        kind = "url" if is_url(shard.source) else "file"
        source = AudioSource(type=kind, channels=[0], source=shard.source)
        return MonoCut(
            id=id,
            start=0.0,
            duration=seconds,
            channel=0,
            recording=Recording(id, [source], self._rate, samples, seconds),
            supervisions=[
                SupervisionSegment(
                    id=id,
                    recording_id=id,
                    start=0.0,
                    duration=seconds,
                    text=text,
                    speaker=self._speakers[speaker],
                    custom={"normalized": text if normalized is None else normalized},
                )
            ],
            custom={"span": [offset, size, shard.total, crc]},
        )


class _Shard:
    """One shard: where its sound lies, of how many bytes, and its index as it was written."""

    def __init__(self, source: str, total: int, lines: bytes, speakers: int) -> None:
        self.source, self.total, self._lines = source, total, lines
        starts, samples, position = list[int](), list[int](), lines.find(b"\n") + 1
        while position < len(lines):
            starts.append(position)
            end = lines.find(b"\n", position)
            row = json.loads(lines[position:end])
            if not _is_row(row, total, speakers):
                raise ValueError(f"line {len(starts) + 1} is not as prepare writes it")
            samples.append(row[4])
            position = end + 1
        self._starts = np.array([*starts, len(lines)], np.int32)
        self.samples = np.array(samples, np.int32)

    def row(self, index: int) -> list[Any]:
        start, end = self._starts[index : index + 2].tolist()
        return list(json.loads(self._lines[start:end]))


def _is_row(row: Any, total: int, speakers: int) -> bool:
    """Whether a line of an index is [id, speaker, text, normalised text or null where it is the
    text, samples, offset, bytes, crc32].
    """
    if type(row) is not list or len(row) != 8:
        return False
    id, speaker, text, normalized, *numbers = row
    if not (type(id) is type(text) is str and (normalized is None or type(normalized) is str)):
        return False
    if any(type(number) is not int or number < 0 for number in (speaker, *numbers)):
        return False
    samples, offset, size, _ = numbers
    inside = 0 < size <= total - offset
    return bool(id) and speaker < speakers and 0 < samples < 1 << 31 and inside


class ShardHeader:
    """shards.json of a place, checked. Raises CorpusError when it is not one of ours."""

    def __init__(self, place: str) -> None:
        content = read_whole(file_of(place, HEADER), MOST_HEADER)
        try:
            self.values: dict[str, Any] = json.loads(content)
            self.shards: dict[str, list[list[Any]]] = self.values["shards"]
            self.sound = self.values["format"] == FORMAT and all(
                type(clips) is type(size) is int and clips > 0 < size and type(digest) is str
                for split in SPLITS
                for clips, size, digest in self.shards[split]
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            self.sound = False
        if not self.sound:
            raise CorpusError(f"{shown(place)}: {HEADER} is not one that prepare has written")


def open_shards(
    place: str, shards: dict[str, list[list[Any]]], speakers: list[str], rate: int
) -> list[ShardCuts]:
    """Return the clips of train, validation and test; shards: those of each split, as the header
    has them.

    Raises CorpusError, which names the file, when an index or, in a folder, a shard is missing,
    damaged or not as it was written.
    """

    def load(split: str, number: int) -> _Shard:
        clips, total, digest = shards[split][number]
        source = file_of(place, sound_name(split, number))
        if not is_url(place):
            read_span(source, 0, 0, total)
        name = file_of(place, index_name(split, number))
        content = read_whole(name, MOST_INDEX)
        try:
            if checksum(content) != digest:
                raise ValueError("its checksum is another one")
            shard = _Shard(source, total, _unpacked(content), len(speakers))
            if len(shard.samples) != clips:
                raise ValueError(f"expected {clips} clips, got {len(shard.samples)}")
        except (ValueError, RecursionError, zlib.error) as error:
            raise CorpusError(
                f"{shown(name)}: not the index of this shard ({' '.join(str(error).split())})"
            ) from error
        return shard

    splits = []
    with ThreadPoolExecutor(CONNECTIONS if is_url(place) else 1, "index") as pool:
        for split in SPLITS:
            numbers = range(len(shards[split]))
            try:
                found = list(pool.map(load, [split] * len(numbers), numbers))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            count = sum(len(shard.samples) for shard in found)
            splits.append(ShardCuts(found, rate, speakers, np.arange(count)))
    return splits


def _unpacked(content: bytes) -> bytes:
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
    lines = unpack.decompress(content, MOST_INDEX)
    if not unpack.eof or not lines.endswith(b"\n"):
        raise ValueError(f"cut short, or of more than {MOST_INDEX:,} bytes")
    return lines


def packed(lines: Iterable[str]) -> bytes:
    """Return lines as a gzip file, the same bytes each time."""
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def clip_bytes(cut: "Cut") -> bytes:
    """Return the file of a clip that lies in a shard; CorpusError, which names the shard, when it
    cannot be read or is not what was written.
    """
    offset, size, total, crc = cut.custom["span"]
    source = cut.recording.sources[0].source
    content = read_span(source, offset, size, total)
    if len(content) != size or zlib.crc32(content) != crc:
        raise CorpusError(f"{shown(source)}: damaged at byte {offset:,}, clip {cut.id}")
    return content


def in_shard(cut: Any) -> bool:
    """Whether a clip lies in a shard, not in a file of its own."""
    return bool(cut.custom) and "span" in cut.custom


def clip_wave(cut: Any, content: bytes | None = None) -> tuple[NDArray[np.float32], int]:
    """Return the samples (N,) of a prepared clip and their rate, wherever it lies.

    content: what `clip_bytes` gave, if it was called before. Raises ValueError or CorpusError, of
    one line, when the clip cannot be read.
    """
    if not in_shard(cut):
        return read_audio(cut.recording.sources[0].source)
    name = f"{shown(cut.recording.sources[0].source)}: {cut.id}"
    wave, rate = decode_audio(clip_bytes(cut) if content is None else content, name)
    if len(wave) != cut.recording.num_samples:
        raise CorpusError(f"{name}: expected {cut.recording.num_samples} samples, got {len(wave)}")
    return wave, rate


def seconds_of(cuts: Sequence[Any]) -> NDArray[np.float64]:
    """Return the durations of cuts (n,)."""
    if isinstance(cuts, ShardCuts):
        return cuts.seconds
    return np.array([cut.duration for cut in cuts], np.float64)


def ids_of(cuts: Sequence[Any]) -> Iterator[str]:
    """Yield the ids of cuts."""
    return cuts.ids() if isinstance(cuts, ShardCuts) else (cut.id for cut in cuts)


def picked(cuts: Sequence[Any], indices: list[int]) -> Sequence[Any]:
    """Return the cuts of these positions."""
    return cuts.pick(indices) if isinstance(cuts, ShardCuts) else [cuts[i] for i in indices]
