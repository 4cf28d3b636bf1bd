"""Prepare a corpus: fetch, read, check every clip, split, write the manifest and the report."""

import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tacoskip.data.checks import check_clips, reject_implausible_rates
from tacoskip.data.corpora import Corpus, find_corpus
from tacoskip.data.download import Progress
from tacoskip.data.errors import CorpusError, LayoutError
from tacoskip.data.prepared import (
    FORMAT,
    LARGEST_REPORT,
    check_speakers,
    is_prepared,
    prepared_dir,
    write_manifest,
)
from tacoskip.data.settings import CorpusConfig, DataSettings
from tacoskip.data.split import SPLITS, assign_splits, rank
from tacoskip.data.storage import is_remote
from tacoskip.data.utterance import Dropped, Notes, Utterance, find_inside
from tacoskip.files import folder_lock, read_regular, write_whole
from tacoskip.messages import nearest_path, without_secrets
from tacoskip.settings import check

DOWNLOADS = Path("data/downloads")


@dataclass
class PrepareReport:
    """What `prepare` leaves: kept clips and their seconds, and every clip it left out.

    done: clips that were decoded in this run; the others were known from an earlier one.
    """

    kept: int
    seconds: float
    dir: Path
    done: int
    speakers: list[str] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    licence: str = ""
    citation: str = ""

    def reasons(self) -> dict[str, int]:
        """Return how many clips were dropped for each reason, the commonest first."""
        return dict(Counter(drop.reason for drop in self.dropped).most_common())


def prepare(
    config: CorpusConfig,
    jobs: int | None = None,
    progress: Progress | None = None,
    downloads: Path = DOWNLOADS,
) -> PrepareReport:
    """Prepare the corpus of a config's `data`, `audio` and `text` in `prepared_dir(config)`.

    jobs: threads that decode (default: one a core). progress: called as (done, total, note) where
    the note names the phase. It may be interrupted and run again: only what is missing or has
    changed is done. A corpus from outside (`data.corpus=module:Class`) is imported here and nowhere
    else. Raises CorpusError when the corpus cannot be had or no clip of it is left, LayoutError
    when the folder holds another one, ValueError when a setting is wrong.
    """
    data = config.data
    corpus = find_corpus(data.corpus)
    check_settings(data, corpus)
    progress = progress or (lambda done, total, note: None)
    if data.root:
        root = Path(data.root)
    else:
        with folder_lock(downloads / f".{corpus.name}"):
            root = corpus.fetch(downloads, data, progress)
    clips, notes = read_utterances(corpus, root.resolve(), data)
    if ":" in data.corpus:
        file = getattr(sys.modules[type(corpus).__module__], "__file__", "?")
        notes.warnings.append(f"data.corpus={data.corpus} is code from {file}")
    directory = prepared_dir(config)
    try:
        with folder_lock(directory):
            (directory / "audio").mkdir(exist_ok=True)
            done = check_clips(clips, directory, config, jobs, progress)
            report = _report(corpus, config, directory, clips, done, notes)
    except (FileExistsError, NotADirectoryError) as error:
        raise LayoutError(f"cannot write to {directory}: a file is in its place") from error
    except OSError as error:  # the disk is full
        raise CorpusError(f"cannot write to {directory}: {error.strerror or error}") from error
    if not report.kept:
        first = report.dropped[0]
        reasons = ", ".join(report.reasons())
        raise CorpusError(
            f"no clip of {data.corpus} is left ({reasons}): see {directory}/report.json; the "
            f"first: {first.path}: {first.detail}"
        )
    return report


def _report(
    corpus: Corpus,
    config: CorpusConfig,
    directory: Path,
    clips: list[Utterance],
    done: int,
    notes: Notes,
) -> PrepareReport:
    """Write a manifest for each split, then report.json, which marks the folder as prepared."""
    rate = config.audio.sample_rate
    reject_implausible_rates([clip for clip in clips if not clip.rejected], rate)
    for clip in clips:
        if clip.rejected:
            notes.drop(clip.id, clip.path, clip.rejected.reason, clip.rejected.detail)
    kept = [clip for clip in clips if not clip.rejected]
    split_of = _split(kept, directory / "report.json", config.data, notes)
    notes.warnings += common_warnings(kept, rate)
    report = PrepareReport(
        kept=len(kept),
        seconds=round(sum(clip.samples for clip in kept) / rate, 3),
        dir=directory,
        done=done,
        speakers=sorted({clip.speaker for clip in kept}),
        splits={split: sum(s == split for s in split_of.values()) for split in SPLITS},
        dropped=notes.dropped,
        warnings=notes.warnings,
        licence=corpus.licence,
        citation=corpus.citation,
    )
    for split in SPLITS:
        chosen = (clip for clip in kept if split_of.get(clip.id) == split)
        write_manifest(directory / f"{split}.jsonl.gz", chosen)
    content = asdict(report) | {
        "format": FORMAT,
        "dir": str(directory),
        "reasons": report.reasons(),
        "settings": {name: asdict(getattr(config, name)) for name in ("data", "audio", "text")},
        "split_of": split_of,
    }
    write_whole(directory / "report.json", json.dumps(content, indent=1))
    return report


def read_utterances(
    corpus: Corpus, root: Path, data: DataSettings
) -> tuple[list[Utterance], Notes]:
    """Return the corpus' clips that the settings choose, and notes of those left out."""
    notes = Notes()
    utterances = list(corpus.read(root, data, notes))
    if not utterances and not notes.dropped:
        raise LayoutError(f"expected clips in {root}, found none")
    unique: dict[str, Utterance] = {}
    for utterance in utterances:
        try:
            utterance.id.encode()
            find_inside(root, utterance.path)
        except UnicodeEncodeError:
            notes.drop(utterance.id, utterance.path, "bad_name", "a name that is not UTF-8")
            continue
        except CorpusError as error:
            notes.drop(utterance.id, utterance.path, "leaves_corpus", str(error))
            continue
        if unique.setdefault(utterance.id, utterance) is not utterance:
            notes.drop(utterance.id, utterance.path, "duplicate_id", "the first one is kept")
    used, _ = data.speakers()
    check_speakers(used, sorted({utterance.speaker for utterance in unique.values()}))
    chosen = [u for u in unique.values() if not used or u.speaker in used]
    if data.limit and len(chosen) > data.limit:
        ids = {u.id for u in sorted(chosen, key=lambda u: rank(u.id, "limit"))[: data.limit]}
        chosen = [u for u in chosen if u.id in ids]
    return chosen, notes


def check_settings(data: DataSettings, corpus: Corpus) -> None:
    """Raise ValueError, in one line, on settings that cannot be meant."""
    check(data, "data.")
    for name in ("subset", "columns"):
        if getattr(data, name) and name not in corpus.settings:
            got = repr(getattr(data, name))
            raise ValueError(f"data.corpus={data.corpus} has no data.{name}, got {got}")
    if Path(data.root).is_file():
        raise ValueError(f"expected a folder in data.root, got the file '{data.root}'")
    if is_prepared(data.root):
        root = without_secrets(data.root)
        raise ValueError(f"data.root={root} is prepared already: train on it")
    if data.root and not Path(data.root).is_dir():
        raise LayoutError(f"no folder '{data.root}' (data.root){nearest_path(data.root)}")
    for name in ("dir", "shards"):
        place = getattr(data, name)
        if place and data.root and Path(place).resolve() == Path(data.root).resolve():
            raise ValueError(
                f"data.{name}={place} is data.root, which is only read: name another folder"
            )
    if is_remote(data.shards) or (data.shards and Path(data.shards).is_file()):
        raise ValueError(
            f"expected a folder in data.shards, got {without_secrets(data.shards)}: write it, then "
            "upload it"
        )


def common_warnings(kept: list[Utterance], sample_rate: int) -> list[str]:
    """Return what the user should know of kept clips: lost characters, too low a sample rate."""
    lost, warnings = Counter[str](), list[str]()
    for clip in kept:
        lost.update(clip.lost)
    if lost:
        named = ", ".join(f"{char!r} ({count})" for char, count in lost.most_common(20))
        warnings.append(f"characters without a symbol were left out of the text: {named}")
    low = Counter(clip.rate for clip in kept if clip.rate < sample_rate)
    return warnings + [
        f"{count} clips are recorded at {rate} Hz, less than audio.sample_rate={sample_rate}: "
        f"they hold nothing above {rate // 2} Hz"
        for rate, count in sorted(low.items())
    ]


def _split(
    clips: list[Utterance], report: Path, data: DataSettings, notes: Notes
) -> dict[str, str]:
    """Assign the splits; those of an earlier report stay unless other numbers are asked for."""
    try:
        before = json.loads(read_regular(report, LARGEST_REPORT))
        asked, earlier = before["settings"]["data"], dict(before["split_of"])
        same = (asked["validation"], asked["test"]) == (data.validation, data.test)
    except (OSError, KeyError, TypeError, ValueError, RecursionError):  # none of this version
        same, earlier = False, {}
    split_of = assign_splits(clips, earlier if same else {}, data.validation, data.test)
    if clips and not {"train", "validation"} <= set(split_of.values()):
        notes.warnings.append(
            f"{len(clips)} clips are too few to train on: it takes some to validate with, and of "
            "each speaker one to train on"
        )
    unused = len(clips) - len(split_of)
    if unused:
        notes.warnings.append(
            f"{unused} clips of the corpus' own validation or test split are in no split, since "
            f"data.validation={data.validation} and data.test={data.test} ask for fewer"
        )
    return split_of
