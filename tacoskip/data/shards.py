"""A prepared corpus as a few large files, for storage that dislikes many small ones.

The folder of `prepared.py` with DIR/audio.000000.tar, ... in place of DIR/audio/ID.flac. Each line
of a manifest has the clip's span: number of the tar, offset, bytes, CRC-32.
"""

import json
import re
import tarfile
import zlib
from io import BytesIO
from pathlib import Path

from tacoskip.data.clip import Clip
from tacoskip.data.download import Progress
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepared import PreparedCorpus, audio_name, shard_name, write_manifest
from tacoskip.data.split import SPLITS
from tacoskip.files import folder_lock, whole_file, write_whole

SHARD_BYTES = 1 << 27  # of sound, after which a shard is closed
OWN = re.compile(r"report\.json|\w+\.jsonl\.gz|audio\.\d{6}\.tar|\.lock|.*\.part")
ONLY_LOCAL = ("dir", "dropped", "split_of", "warnings")  # of a report; it names this machine


def write_shards(
    prepared: Path, folder: Path, progress: Progress | None = None, shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Write the prepared corpus in `prepared` as shards and return them.

    The same corpus gives the same bytes. Raises CorpusError when the corpus is not prepared, or the
    folder holds other files or cannot be written.
    """
    corpus = PreparedCorpus(prepared)
    clips = [clip for split in SPLITS for clip in getattr(corpus, split)]
    report = {name: value for name, value in corpus.report.items() if name not in ONLY_LOCAL}
    report["settings"]["data"] |= {"root": "", "dir": "", "shards": ""}
    spans, shards = dict[str, list[int]](), list[Path]()
    try:
        with folder_lock(folder):
            if others := [one.name for one in folder.iterdir() if not OWN.fullmatch(one.name)]:
                raise CorpusError(f"expected no other files in {folder}, got {others[0]!r}")
            for path in (folder / "report.json", *folder.glob("audio.*.tar")):
                path.unlink(missing_ok=True)
            while len(spans) < len(clips):
                number = len(shards)
                shards.append(folder / shard_name(number))
                with whole_file(shards[-1]) as part, tarfile.open(part, "w") as tar:
                    for clip in clips[len(spans) :]:
                        if tar.offset > shard_bytes:
                            break
                        spans[clip.id] = [number, *_append(tar, clip)]
                        if progress:
                            progress(len(spans), len(clips), "write shards")
            for split in SPLITS:
                write_manifest(folder / f"{split}.jsonl.gz", getattr(corpus, split), spans)
            write_whole(folder / "report.json", json.dumps(report, indent=1))
    except OSError as error:
        where = error.filename or folder
        raise CorpusError(f"cannot write {where}: {error.strerror or error}") from error
    return shards


def _append(tar: tarfile.TarFile, clip: Clip) -> tuple[int, int, int]:
    """Append a clip's file, without time or owner; return its offset, bytes and CRC-32."""
    content = clip.content()
    member = tarfile.TarInfo(audio_name(clip.id).removeprefix("audio/"))
    member.size = len(content)
    tar.addfile(member, BytesIO(content))
    offset = tar.offset - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return offset, len(content), zlib.crc32(content)
