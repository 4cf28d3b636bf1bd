"""Writes a prepared corpus as shards, see `shards.py`.

A clip's flac goes into its tar as it is. A shard counts once its index is there, so that a run
that was interrupted goes on with the first one missing; shards.json comes last, and marks the
place as whole. The same corpus gives the same bytes.
"""

import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacoskip.audio.io import write_whole
from tacoskip.data.corpus import Corpus
from tacoskip.data.download import Progress
from tacoskip.data.errors import CorpusError
from tacoskip.data.journal import digest, write_atomically
from tacoskip.data.places import is_url
from tacoskip.data.shards import (
    FORMAT,
    HEADER,
    checksum,
    cuts_name,
    index_name,
    packed,
    sound_name,
)
from tacoskip.data.split import SPLITS

if TYPE_CHECKING:
    from lhotse import MonoCut

# A shard is closed when it has so many bytes of sound, or so many clips.
SHARD_BYTES, SHARD_CLIPS = 1 << 27, 5000
BLOCK = 512  # of a tar


@dataclass
class ShardReport:
    """What `write_shards` leaves. written: shards of this run; the others were there."""

    dir: str
    shards: int
    written: int
    bytes: int


def check_target(place: str) -> Path:
    """Return the folder that data.shards names; ValueError when shards cannot be written there."""
    folder = Path(place)
    if is_url(place) or "://" in place:
        raise ValueError(f"expected a folder in data.shards, got {place}: write, then upload it")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"expected a folder in data.shards, got the file {place}")
    return folder


def write_shards(
    corpus: Path,
    folder: Path,
    progress: Progress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> ShardReport:
    """Write the prepared corpus in `corpus` as shards into `folder`.

    It may be interrupted and run again: shards of the same clips, by their files' size and time,
    are kept. Raises CorpusError when the corpus is not prepared or the folder cannot be written.
    """
    progress = progress or (lambda done, total, note: None)
    opened = Corpus(corpus)
    plan = [
        (split, number, cuts)
        for split in SPLITS
        for number, cuts in enumerate(_shards(list(getattr(opened, split)), shard_bytes))
    ]
    try:
        (folder / HEADER).unlink(missing_ok=True)
        for name in ("index", *SPLITS):
            (folder / name).mkdir(parents=True, exist_ok=True)
        _clear(folder, plan)
        shards: dict[str, list[list[Any]]] = {split: [] for split in SPLITS}
        written = 0
        speakers = {name: number for number, name in enumerate(opened.speakers)}
        for done, (split, number, cuts) in enumerate(plan):
            progress(done, len(plan), "write shards")
            key = _key(cuts)
            entry = _known(folder, split, number, key)
            if entry is None:
                entry = _write_shard(folder, split, number, cuts, key, speakers)
                written += 1
            shards[split].append(entry)
        settings = {name: dict(values) for name, values in opened.settings.items()}
        settings["data"] |= {"root": "", "dir": "", "shards": ""}
        report = opened.report
        header = {
            "format": FORMAT,
            **{name: report[name] for name in ("kept", "seconds", "speakers", "splits")},
            "statistics": report.get("statistics", {}),
            "settings": settings,
            "shards": shards,
        }
        write_atomically(folder / HEADER, json.dumps(header) + "\n")
    except OSError as error:
        where = error.filename or folder
        raise CorpusError(f"cannot write {where}: {error.strerror or error}") from error
    size = sum(total for entries in shards.values() for _, total, _ in entries)
    return ShardReport(str(folder), len(plan), written, size)


def _shards(cuts: list["MonoCut"], shard_bytes: int) -> Iterator[list["MonoCut"]]:
    """Yield the clips of shard after shard, in the order of the manifest."""
    chosen, size = list["MonoCut"](), 0
    for cut in cuts:
        chosen.append(cut)
        size += _file(cut).stat().st_size
        if size >= shard_bytes or len(chosen) == SHARD_CLIPS:
            yield chosen
            chosen, size = [], 0
    if chosen:
        yield chosen


def _file(cut: "MonoCut") -> Path:
    return Path(str(cut.recording.sources[0].source))


def _key(cuts: list["MonoCut"]) -> str:
    """Return a digest of what a shard's bytes hang on."""
    values = []
    for cut in cuts:
        state = _file(cut).stat()
        values.append([asdict(cut.supervisions[0]), state.st_size, state.st_mtime_ns])
    return digest(values)


def _known(folder: Path, split: str, number: int, key: str) -> list[Any] | None:
    """Return the header's entry of a shard that is there already, whole and of this key."""
    try:
        content = (folder / index_name(split, number)).read_bytes()
        unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
        said = json.loads(unpack.decompress(content, 4096).partition(b"\n")[0])
        size = (folder / sound_name(split, number)).stat().st_size
        there = (folder / cuts_name(split, number)).is_file()
        if there and said["key"] == key and said["bytes"] == size:
            return [said["clips"], size, checksum(content)]
    except (OSError, ValueError, KeyError, TypeError, zlib.error):
        pass
    return None


def _write_shard(
    folder: Path,
    split: str,
    number: int,
    cuts: list["MonoCut"],
    key: str,
    speakers: dict[str, int],
) -> list[Any]:
    """Write one shard, its index last, and return the header's entry."""
    from lhotse.shar.utils import to_shar_placeholder

    index = folder / index_name(split, number)
    index.unlink(missing_ok=True)
    part = folder / f"{split}.{number:06d}.part"
    rows, lines = list[str](), list[str]()
    try:
        with part.open("wb") as stream, tarfile.open(fileobj=stream, mode="w") as tar:
            for cut in cuts:
                content = _file(cut).read_bytes()
                name = _file(cut).stem  # the id, where that can be the name of a file
                # What Shar wants: sound and recording side by side, the cut without a place.
                recording = replace(to_shar_placeholder(cut.recording), id=name)
                offset = _add(tar, f"{name}.flac", content)
                _add(tar, f"{name}.json", (json.dumps(recording.to_dict()) + "\n").encode())
                lines.append(json.dumps(replace(cut, id=name, recording=recording).to_dict()))
                rows.append(_row(cut, speakers, offset, content))
        total = part.stat().st_size
        part.replace(folder / sound_name(split, number))
    finally:
        part.unlink(missing_ok=True)
    write_whole(folder / cuts_name(split, number), packed(lines))
    head = json.dumps({"key": key, "clips": len(cuts), "bytes": total})
    content = packed([head, *rows])
    write_whole(index, content)
    return [len(cuts), total, checksum(content)]


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Append a file to a tar, without time or owner, and return where its content begins."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, BytesIO(content))
    return tar.offset - -(-len(content) // BLOCK) * BLOCK


def _row(cut: "MonoCut", speakers: dict[str, int], offset: int, content: bytes) -> str:
    """Return a clip's line of the index, see `shards._is_row`."""
    supervision = cut.supervisions[0]
    text, normalized = supervision.text, supervision.custom["normalized"]
    return json.dumps(
        [
            *(cut.id, speakers[supervision.speaker], text),
            None if normalized == text else normalized,
            *(cut.recording.num_samples, offset, len(content), zlib.crc32(content)),
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    )


def _clear(folder: Path, plan: list[tuple[str, int, list["MonoCut"]]]) -> None:
    """Remove shards of an earlier, larger corpus, and what a killed run left half-written: lhotse
    reads whatever lies in the folder of a split.
    """
    for part in folder.glob("*.part"):
        part.unlink()
    for split in SPLITS:
        number = sum(name == split for name, _, _ in plan)
        kept = {
            folder / name(split, n)
            for n in range(number)
            for name in (index_name, cuts_name, sound_name)
        }
        for pattern in (f"index/{split}.*", f"{split}/cuts.*", f"{split}/recording.*"):
            for file in folder.glob(pattern):
                if file not in kept:
                    file.unlink()
