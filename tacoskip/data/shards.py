"""A prepared corpus as a few large files, for storage that dislikes many small ones.

DIR/audio.000000.tar, ...   the clips' flac files, in the order of the manifests
DIR/{train,validation,test}.jsonl.gz   as `prepare` writes them, each line with the clip's span:
                            number of the tar, offset, bytes, CRC-32
DIR/report.json             what was prepared; written last, it marks the folder as whole
"""

import json
import tarfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from tacoskip.data.clip import Clip, manifest_row
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepared import PreparedCorpus, audio_name, packed, shard_name
from tacoskip.data.split import SPLITS
from tacoskip.data.storage import is_remote
from tacoskip.files import write_whole

SHARD_BYTES = 1 << 27  # of sound, after which a shard is closed
TAR_BLOCK = 512

Progress = Callable[[int, int, str], None]


@dataclass
class ShardReport:
    """What `write_shards` leaves."""

    dir: str
    shards: int
    bytes: int


def check_target(place: str) -> Path:
    """Return the folder that data.shards names; ValueError when shards cannot be written there."""
    if is_remote(place):
        raise ValueError(f"expected a folder in data.shards, got {place}: write, then upload it")
    if Path(place).exists() and not Path(place).is_dir():
        raise ValueError(f"expected a folder in data.shards, got the file {place}")
    return Path(place)


def write_shards(
    prepared: Path, folder: Path, progress: Progress | None = None, shard_bytes: int = SHARD_BYTES
) -> ShardReport:
    """Write the prepared corpus in `prepared` as shards into `folder`; the same corpus gives the
    same bytes.

    Raises CorpusError when the corpus is not prepared or the folder cannot be written.
    """
    corpus = PreparedCorpus(prepared)
    clips = {split: list[Clip](getattr(corpus, split)) for split in SPLITS}
    done, total = 0, sum(map(len, clips.values()))
    writer = _Writer(folder, shard_bytes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").unlink(missing_ok=True)
        for split in SPLITS:
            rows = []
            for clip in clips[split]:
                row = {name: getattr(clip, name) for name in Clip.__slots__}
                rows.append(manifest_row(row) | {"span": writer.add(clip)})
                done += 1
                if progress:
                    progress(done, total, "write shards")
            write_whole(folder / f"{split}.jsonl.gz", packed(rows))
        writer.finish()
        report = {name: value for name, value in corpus.report.items() if name not in ONLY_LOCAL}
        settings = {name: dict(values) for name, values in corpus.settings.items()}
        settings["data"] |= {"root": "", "dir": "", "shards": ""}
        write_whole(folder / "report.json", json.dumps(report | {"settings": settings}, indent=1))
    except OSError as error:
        where = error.filename or folder
        raise CorpusError(f"cannot write {where}: {error.strerror or error}") from error
    finally:
        writer.abort()
    return ShardReport(str(folder), writer.number, writer.bytes)


ONLY_LOCAL = ("dir", "dropped", "split_of", "warnings")  # of a report; nobody else's business


class _Writer:
    """Appends clips to one tar after another."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self.number, self.bytes = 0, 0
        self.part = folder / "audio.part"
        self.tar: tarfile.TarFile | None = None

    def add(self, clip: Clip) -> list[Any]:
        """Append a clip's file, without time or owner, and return its span."""
        content = Path(clip.source).read_bytes()
        if self.tar is not None and self.tar.offset + len(content) > self.shard_bytes:
            self.close()
        if self.tar is None:
            self.tar = tarfile.open(self.part, "w")  # noqa: SIM115 (closed by `close`)
        member = tarfile.TarInfo(audio_name(clip.id).removeprefix("audio/"))
        member.size = len(content)
        self.tar.addfile(member, BytesIO(content))
        offset = self.tar.offset - -(-len(content) // TAR_BLOCK) * TAR_BLOCK
        return [self.number, offset, len(content), zlib.crc32(content)]

    def close(self) -> None:
        """Finish the open tar, if any."""
        if self.tar is not None:
            self.tar.close()
            self.tar = None
            self.bytes += self.part.stat().st_size
            self.part.replace(self.folder / shard_name(self.number))
            self.number += 1

    def finish(self) -> None:
        """Finish the last tar and remove those of an earlier, larger corpus."""
        self.close()
        written = {self.folder / shard_name(number) for number in range(self.number)}
        for path in set(self.folder.glob("audio.*.tar")) - written:
            path.unlink()

    def abort(self) -> None:
        """Remove a tar that was not finished."""
        with suppress(OSError):
            if self.tar is not None:
                self.tar.close()
            self.part.unlink()
