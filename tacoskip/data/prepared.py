"""A prepared corpus: where it lies, how its manifests are written, and how it is opened.

DIR/audio/ID.flac                      prepared clips, mono 16-bit
DIR/{train,validation,test}.jsonl.gz   a line a clip: id, speaker, text, normalized, samples
DIR/report.json                        what was kept, what was left out and why

No file name is read from a manifest, which a stranger may have written: it follows from the id.
As shards, for storage that dislikes small files: DIR/audio.000000.tar, ... in place of DIR/audio/,
and in each line of a manifest the clip's span: number of the tar, offset, bytes, CRC-32.
"""

import gzip
import json
import os
import re
import sys
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tacoskip.data.clip import MANIFEST, Clip
from tacoskip.data.download import Progress
from tacoskip.data.errors import CorpusError
from tacoskip.data.settings import CorpusConfig, DataSettings
from tacoskip.data.split import SPLITS
from tacoskip.data.storage import file_of, is_remote, read
from tacoskip.data.utterance import Utterance
from tacoskip.files import folder_lock, raised_limit, whole_file, write_whole
from tacoskip.messages import nearest, with_secrets, without_secrets
from tacoskip.text.settings import TextSettings

FORMAT = "tacoskip corpus 2"
LARGEST_REPORT = 1 << 28
LARGEST_MANIFEST = 1 << 30  # bytes, unpacked
SHARD_BYTES = 1 << 27  # of sound, after which a shard is closed
OWN = re.compile(r"report\.json|\w+\.jsonl\.gz|audio\.\d{6}\.tar|\.lock|.*\.part")  # of shards
ONLY_LOCAL = ("dir", "dropped", "split_of", "warnings")  # of a report; it names this machine


def audio_name(id: str) -> str:
    """Return the file of a clip relative to the prepared folder, safe for any id."""
    name = quote(id, safe=" ")
    if len(name) > 120:
        name = name[:100] + sha256(id.encode()).hexdigest()[:16]
    return f"audio/{name}.flac"


def shard_name(number: int) -> str:
    return f"audio.{number:06d}.tar"


def is_prepared(place: str | Path) -> bool:
    """Whether a place holds a prepared corpus: an address, or a folder with its report."""
    if is_remote(str(place)):
        return True
    names = ("report.json", "train.jsonl.gz")
    return bool(str(place)) and all(Path(place, name).is_file() for name in names)


def prepared_dir(config: CorpusConfig) -> Path:
    """Return where the corpus is prepared: data.dir, or data/<corpus>[-digest].

    The digest stands for everything that makes the prepared clips differ from the plain corpus:
    another root, a subset, limits, another sample rate, phonemes.
    """
    from tacoskip.data.corpora import built_in

    data, plain = config.data, DataSettings()
    if data.dir:
        return Path(data.dir)
    shaping = ("subset", "columns", "limit", "max_seconds", "validation", "test")
    differs = {
        name: getattr(data, name) for name in shaping if getattr(data, name) != getattr(plain, name)
    }
    corpus = built_in(data.corpus)
    if data.speakers()[0]:
        differs["speaker"] = sorted(data.speakers()[0])
    if data.root:
        differs["root"] = str(Path(data.root).resolve())
    if corpus is None or config.audio.sample_rate != corpus.sample_rate:
        differs["sample_rate"] = config.audio.sample_rate
    if config.text != TextSettings():
        differs["text"] = asdict(config.text)
    digest = sha256(json.dumps(differs).encode()).hexdigest()
    suffix = f"-{digest[:6]}" if differs else ""
    return Path("data") / f"{data.corpus.rpartition(':')[2]}{suffix}"


def write_manifest(
    file: Path, clips: Iterable[Utterance | Clip], spans: Mapping[str, list[int]] | None = None
) -> None:
    """Write a line of JSON for each clip into a gzip file; the same bytes each time.

    spans: of clips in shards, by id.
    """
    rows = ({name: getattr(clip, name) for name in MANIFEST} for clip in clips)
    if spans is not None:
        rows = (row | {"span": spans[row["id"]]} for row in rows)
    lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    write_whole(file, gzip.compress(lines.encode(), mtime=0))


def check_speakers(names: list[str], known: list[str]) -> None:
    """Raise ValueError for a speaker in data.speaker that the corpus does not have."""
    for name in names:
        if name not in known:
            hint = f"{nearest(name, known)} (known: {', '.join(known)})"
            raise ValueError(f"unknown speaker '{name}' in data.speaker{hint}")


class PreparedCorpus:
    """A prepared corpus, opened: a folder or an address, its clips in files or in shards.

    train, validation, test: the clips of each split. speakers: sorted names. settings: the `data`,
    `audio` and `text` settings it was prepared with. report: report.json. Raises CorpusError when
    the place holds no (whole) prepared corpus.
    """

    def __init__(self, place: str | Path) -> None:
        self.place, self.dir = with_secrets(str(place)), without_secrets(str(place))
        try:
            report = json.loads(read(file_of(self.place, "report.json"), largest=LARGEST_REPORT))
            self.report: dict[str, Any] = report
            self.settings: dict[str, dict[str, Any]] = report["settings"]
            self.speakers: list[str] = report["speakers"]
            self.audio_sample_rate: int = self.settings["audio"]["sample_rate"]
            names = [self.settings["data"]["corpus"], *self.speakers]
            kinds = {type(value) for value in (self.audio_sample_rate, self.speakers, *names)}
            if not report["kept"] or kinds != {int, list, str} or self.audio_sample_rate < 1:
                raise ValueError("no report of prepare, or of a corpus without a clip")
            if report["format"] != FORMAT:
                raise ValueError("prepared by another version")
        except (CorpusError, ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, CorpusError) and is_remote(self.place):
                raise
            raise CorpusError(
                f"no prepared corpus in {self.dir}, or one of another version (run: tacoskip "
                "prepare, with the same settings)"
            ) from error
        self.train, self.validation, self.test = map(self._clips, SPLITS)

    @classmethod
    def of(cls, config: CorpusConfig) -> "PreparedCorpus":
        """Open the corpus of these settings, with the speakers that they choose.

        Raises CorpusError when its folder holds another corpus or none, ValueError for an unknown
        speaker or when no clip is left to train on, or to validate with.
        """
        data = config.data
        corpus = cls(data.root if is_prepared(data.root) else prepared_dir(config))
        expected = f"{data.corpus} at {config.audio.sample_rate} Hz"
        got = f"{corpus.settings['data']['corpus']} at {corpus.audio_sample_rate} Hz"
        if expected != got:
            raise CorpusError(
                f"expected {expected} in {corpus.dir}, got {got} (run: tacoskip prepare recipe=...)"
            )
        corpus._choose_speakers(data)
        return corpus

    def checksum(self) -> int:
        """CRC-32 of the ids of the clips to train and to validate with, in their order."""
        return zlib.crc32("".join(clip.id for clip in (*self.train, *self.validation)).encode())

    def _clips(self, split: str) -> list[Clip]:
        """Read a manifest; CorpusError when it is damaged or a clip leads out of the corpus."""
        name = f"{split}.jsonl.gz"
        content = read(file_of(self.place, name))
        try:
            unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
            lines = unpack.decompress(content, raised_limit(LARGEST_MANIFEST))
            if not unpack.eof:
                limit = f"{LARGEST_MANIFEST:,} bytes (TACOSKIP_LIMITS=10 allows ten times as many)"
                raise ValueError(f"cut short, or more than {limit}")
            speakers = set(self.speakers)
            return [self._clip(json.loads(line), speakers) for line in lines.splitlines()]
        except (ValueError, TypeError, AttributeError, RecursionError, zlib.error) as error:
            cause = " ".join(str(error).split())
            raise CorpusError(f"{self.dir}/{name}: not a manifest of prepare ({cause})") from error

    def _clip(self, row: Any, speakers: set[str]) -> Clip:
        in_tar = "span" in row
        number, *span = row.pop("span", [0, 0, 1, 0])
        numbers = [number, *span, row.get("samples")]
        if (
            {name: type(value) for name, value in row.items()} != MANIFEST
            or not all(type(value) is int and value >= 0 for value in numbers)
            or not (len(span) == 3 and span[1] and row["samples"] and row["id"])
            or row["speaker"] not in speakers
        ):
            raise ValueError(f"clip {str(row)[:80]} is not as prepare writes it")
        name = shard_name(number) if in_tar else audio_name(row["id"])
        path = file_of(self.place, name) if is_remote(self.place) else f"{self.dir}/{name}"
        if not is_remote(self.place) and any(map(os.path.islink, (path, os.path.dirname(path)))):
            raise ValueError(f"the audio of clip {row['id']!r} is a link")
        if row["normalized"] == row["text"]:
            row["normalized"] = row["text"]  # one object of the two
        row["speaker"] = sys.intern(row["speaker"])
        return Clip(
            **row,
            source=path,
            sample_rate=self.audio_sample_rate,
            span=tuple(span) if in_tar else None,
        )

    def _choose_speakers(self, data: DataSettings) -> None:
        used, left_out = data.speakers()
        check_speakers([*used, *left_out], self.speakers)
        self.speakers = [name for name in self.speakers if not used or name in used]
        learning = set(self.speakers) - set(left_out)
        self.train = [clip for clip in self.train if clip.speaker in learning]
        self.validation = [clip for clip in self.validation if clip.speaker in learning]
        self.test = [clip for clip in self.test if clip.speaker in self.speakers]
        if not self.train or not self.validation:
            raise ValueError(
                f"{self.dir} with data.speaker={data.speaker!r} has {len(self.train)} clips to "
                f"train and {len(self.validation)} to validate with: take more recordings (each "
                "speaker trains on one at least), other speakers, or data.validation=N"
            )


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
            old = (*folder.glob("audio.*.tar"), *folder.glob("*.part"))  # .part: of a killed writer
            for path in (folder / "report.json", *old):
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
