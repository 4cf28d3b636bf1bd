"""A prepared corpus on disk: where it lies, how it is written and opened again.

DIR/audio/ID.flac            prepared clips, mono 16-bit
DIR/{train,validation,test}.jsonl.gz   lhotse cuts; paths relative, so DIR may be moved
DIR/report.json, report.png  what was kept, what was dropped and why
DIR/clips.jsonl              results clip by clip, for the next run

The same as shards, for object storage and corpora that no disk holds: `shards.py`.
"""

import gzip
import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import asdict
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacoskip.audio.settings import AudioSettings
from tacoskip.data.errors import CorpusError
from tacoskip.data.journal import digest
from tacoskip.data.manifest import ManifestCheck, is_texts
from tacoskip.data.places import shown
from tacoskip.data.settings import DataSettings
from tacoskip.data.shards import ShardCuts, ShardHeader, are_shards, ids_of, open_shards
from tacoskip.data.split import SPLITS, rank
from tacoskip.text.settings import TextSettings

if TYPE_CHECKING:
    from lhotse import CutSet

# The rate at which a recipe uses each corpus: another one goes into a folder of its own.
USUAL_RATE = {"demo": 16000, "ljspeech": 22050, "vctk": 22050, "fsdd": 8000, "librispeech": 16000}


def prepared_dir(data: DataSettings, audio: AudioSettings, text: TextSettings) -> Path:
    """Return where the corpus is prepared: data.dir, or data/<corpus>[-digest].

    The digest stands for everything that makes the prepared clips differ from the plain corpus:
    another root, a subset, limits, another sample rate, phonemes.
    """
    if data.dir:
        return Path(data.dir)
    plain = DataSettings()
    shaping = ("subset", "limit", "min_seconds", "max_seconds", "trim_db", "level_db")
    differs = {
        name: getattr(data, name)
        for name in (*shaping, "validation", "test")
        if getattr(data, name) != getattr(plain, name)
    }
    if data.root:
        differs["root"] = str(Path(data.root).resolve())
    if audio.sample_rate != USUAL_RATE.get(data.corpus):
        differs["sample_rate"] = audio.sample_rate
    if text != TextSettings():
        differs["text"] = asdict(text)
    suffix = f"-{digest([differs])[:6]}" if differs else ""
    return Path("data") / f"{data.corpus}{suffix}"


def write_cuts(directory: Path, split: str, clips: Iterable[dict[str, Any]], rate: int) -> None:
    """Write one split's manifest from journal rows, whole or not at all; the same rows give the
    same bytes.
    """
    part = directory / f"{split}.part.jsonl.gz"
    try:
        # Without a name and a time in its header.
        with part.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as stream:
            for clip in clips:
                line = json.dumps(_cut(clip, rate), ensure_ascii=False)
                stream.write(f"{line}\n".encode())
        os.replace(part, directory / f"{split}.jsonl.gz")
    finally:
        part.unlink(missing_ok=True)


def _cut(clip: dict[str, Any], rate: int) -> dict[str, Any]:
    """A clip as lhotse writes a MonoCut; to import lhotse, and torch with it, takes seconds."""
    id, seconds = clip["id"], clip["samples"] / rate
    return {
        "id": id,
        "start": 0.0,
        "duration": seconds,
        "channel": 0,
        "supervisions": [
            {
                "id": id,
                "recording_id": id,
                "start": 0.0,
                "duration": seconds,
                "channel": 0,
                "text": clip["text"],
                "speaker": clip["speaker"],
                "custom": {"normalized": clip["normalized"]},
            }
        ],
        "recording": {
            "id": id,
            "sources": [{"type": "file", "channels": [0], "source": clip["file"]}],
            "sampling_rate": rate,
            "num_samples": clip["samples"],
            "duration": seconds,
            "channel_ids": [0],
        },
        "type": "MonoCut",
    }


class Corpus:
    """A prepared corpus, opened: a folder, or a place of shards (a folder or URL).

    train, validation, test: lhotse CutSets whose paths lead to the clips; of shards, `ShardCuts`.
    speakers: sorted names. settings: the `data`, `audio` and `text` settings it was prepared with.
    report: report.json, or the header of the shards. Raises CorpusError when the place holds no
    (whole) prepared corpus; asked: the settings that its line then adds to `prepare recipe=...`.
    """

    train: "CutSet | ShardCuts"
    validation: "CutSet | ShardCuts"
    test: "CutSet | ShardCuts"

    def __init__(self, dir: str | Path, asked: str = "") -> None:
        place = str(dir)
        self.dir = shown(place)
        splits: list[Any]
        try:
            if are_shards(place):
                header = ShardHeader(place)
                self._read_report(header.values)
                splits = open_shards(place, header.shards, self.speakers, self.audio_sample_rate)
            else:
                report = Path(dir, "report.json").read_text(encoding="utf-8")
                self._read_report(json.loads(report))
                splits = [self._manifest(split) for split in SPLITS]
        except CorpusError:
            raise
        except Exception as error:  # a damaged manifest can make its readers fail in any way
            raise CorpusError(
                f"no prepared corpus in {self.dir} (run: tacoskip prepare recipe=...{asked})"
            ) from error
        self.train, self.validation, self.test = splits

    def checksum(self) -> int:
        """CRC-32 of the ids of the clips to train and to validate with, in their order."""
        found = 0
        for cuts in (self.train, self.validation):
            for id in ids_of(cuts):
                found = zlib.crc32(id.encode(), found)
        return found

    def _read_report(self, report: dict[str, Any]) -> None:
        if not report["kept"]:
            raise ValueError("no clip was left")
        self.report = report
        self.settings: dict[str, dict[str, Any]] = report["settings"]
        self.speakers: list[str] = report["speakers"]
        self.audio_sample_rate: int = self.settings["audio"]["sample_rate"]
        if type(self.settings["data"]["corpus"]) is not str or not is_texts(self.speakers):
            raise TypeError("expected settings and speakers")
        if type(self.audio_sample_rate) is not int or self.audio_sample_rate < 1:
            raise TypeError("expected a sample rate")

    def _manifest(self, split: str) -> "CutSet":
        from lhotse import CutSet

        check = ManifestCheck(Path(self.dir), self.speakers)
        read = CutSet.from_file(Path(self.dir, f"{split}.jsonl.gz"))
        cuts = [] if read is None else list(read)  # None: the file has no line
        for cut in cuts:
            check(cut)
        return CutSet.from_cuts(cuts).with_recording_path_prefix(self.dir).to_eager()

    @classmethod
    def of(cls, data: DataSettings, audio: AudioSettings, text: TextSettings) -> "Corpus":
        """Open the corpus of these settings, its training and validation clips as they choose.

        Raises CorpusError when its folder holds another corpus or none, ValueError for an unknown
        speaker or when no clip is left to train on, or to validate with.
        """
        asked = f" data.root={data.root}" if data.root else ""
        asked += f" data.dir={data.dir}" if data.dir else ""
        corpus = cls(data.root if are_shards(data.root) else prepared_dir(data, audio, text), asked)
        wanted = (data.corpus, audio.sample_rate)
        found = (corpus.settings["data"]["corpus"], corpus.audio_sample_rate)
        if wanted != found:
            raise CorpusError(
                f"expected {wanted[0]} at {wanted[1]} Hz in {corpus.dir}, got {found[0]} at "
                f"{found[1]} Hz (run: tacoskip prepare recipe=...)"
            )
        corpus._choose(data)
        return corpus

    def _choose(self, data: DataSettings) -> None:
        unknown = [name for name in data.leave_out if name not in self.speakers]
        if unknown:
            near = get_close_matches(unknown[0], self.speakers, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(
                f"unknown speaker '{unknown[0]}' in data.leave_out{hint} "
                f"(known: {', '.join(self.speakers)})"
            )
        if data.leave_out:
            self.train = self.train.filter(partial(_by_others, data.leave_out)).to_eager()
            self.validation = self.validation.filter(partial(_by_others, data.leave_out)).to_eager()
        if data.train_share < 1:
            chosen = sorted(ids_of(self.train), key=lambda id: (rank(id, "share"), id))
            ids = set(chosen[: round(data.train_share * len(chosen))])
            self.train = self.train.filter(lambda cut: cut.id in ids).to_eager()
        if not len(self.train):
            raise ValueError(f"no training clip of {self.dir} is left by data.leave_out and share")
        if not len(self.validation):
            left = "is left by data.leave_out" if data.leave_out else "among so few"
            raise ValueError(
                f"no clip to validate with {left}: {self.dir} has {len(self.train)} to train on; "
                "take more recordings (each speaker trains on one at least), or data.validation=N"
            )


def _by_others(names: list[str], cut: Any) -> bool:
    return cut.supervisions[0].speaker not in names
