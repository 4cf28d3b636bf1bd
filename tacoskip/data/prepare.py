"""Prepare a corpus: fetch, read, check every clip, split, write the manifest and the report."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tacoskip.audio.settings import AudioSettings
from tacoskip.data.clips import Row, check_clips
from tacoskip.data.corpora import READERS
from tacoskip.data.corpus import prepared_dir, write_cuts
from tacoskip.data.download import Progress
from tacoskip.data.errors import CorpusError, LayoutError
from tacoskip.data.layout import hint
from tacoskip.data.report import read_report, write_report
from tacoskip.data.settings import DataSettings
from tacoskip.data.sources import find_root
from tacoskip.data.split import SPLITS, assign_splits, rank
from tacoskip.data.statistics import implausible_rates
from tacoskip.data.utterance import Dropped, Notes, Utterance
from tacoskip.text.settings import TextSettings

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

    def reasons(self) -> dict[str, int]:
        """Return how many clips were dropped for each reason, the commonest first."""
        return dict(Counter(drop.reason for drop in self.dropped).most_common())


def prepare(
    data: DataSettings,
    audio: AudioSettings,
    text: TextSettings,
    jobs: int | None = None,
    progress: Progress | None = None,
    downloads: Path = DOWNLOADS,
) -> PrepareReport:
    """Prepare the corpus of these settings in `prepared_dir(data, audio, text)`.

    jobs: threads that decode (default: one a core). progress: called as (done, total, note) where
    the note names the phase. It may be interrupted and run again: only what is missing or has
    changed is done. Raises CorpusError when the corpus cannot be had or no clip of it is left,
    LayoutError when the folder holds another one, ValueError when a setting is wrong.
    """
    check_settings(data)
    progress = progress or (lambda done, total, note: None)
    root = find_root(data, downloads, progress)
    notes = Notes()
    found = list(READERS[data.corpus](root, data.subset, notes))
    if not found and not notes.dropped:
        raise LayoutError(f"expected clips in {root}, found none{hint(root, data.corpus)}")
    utterances = select(found, data.limit, notes)
    directory = prepared_dir(data, audio, text)
    try:
        (directory / "audio").mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise LayoutError(f"cannot write to {directory}: a file is in its place") from error
    except OSError as error:
        raise CorpusError(f"cannot write to {directory}: {error.strerror}") from error
    try:
        report = _prepare(directory, utterances, data, audio, text, jobs, progress, notes)
    except OSError as error:  # the disk is full
        raise CorpusError(f"cannot write to {directory}: {error.strerror or error}") from error
    if not report.kept:
        reasons, first = ", ".join(report.reasons()), report.dropped[0]
        raise CorpusError(
            f"no clip of {root} is left ({reasons}): see {directory}/report.json; "
            f"the first: {first.path}: {first.detail}"
        )
    return report


def _prepare(
    directory: Path,
    utterances: list[Utterance],
    data: DataSettings,
    audio: AudioSettings,
    text: TextSettings,
    jobs: int | None,
    progress: Progress,
    notes: Notes,
) -> PrepareReport:
    before = read_report(directory)
    rows, done = check_clips(utterances, directory, data, audio, text, jobs, progress)
    kept = [row for row in rows if "reason" not in row]
    for row in rows:
        if "reason" in row:
            notes.drop(row["id"], row["path"], row["reason"], row["detail"])
    implausible = {row["id"]: (row, detail) for row, detail in implausible_rates(kept)}
    for row, detail in implausible.values():
        notes.drop(row["id"], row["path"], "implausible_rate", detail)
    kept = [row for row in kept if row["id"] not in implausible]
    split_of = _split(kept, utterances, before, data, notes)
    notes.warnings += common_warnings(kept, audio.sample_rate)
    report = PrepareReport(
        kept=len(kept),
        seconds=round(sum(row["seconds"] for row in kept), 3),
        dir=directory,
        done=done,
        speakers=sorted({row["speaker"] for row in kept}),
        splits={split: sum(s == split for s in split_of.values()) for split in SPLITS},
        dropped=notes.dropped,
        warnings=notes.warnings,
    )
    for split in SPLITS:
        chosen = [row for row in kept if split_of.get(row["id"]) == split]
        write_cuts(directory, split, chosen, audio.sample_rate)
    settings = {"data": asdict(data), "audio": asdict(audio), "text": asdict(text)}
    write_report(report, kept, split_of, settings)
    return report


def check_settings(data: DataSettings) -> None:
    """Raise ValueError, in one line, on settings that cannot be meant."""
    if data.corpus not in READERS:
        raise ValueError(f"expected data.corpus of {', '.join(READERS)}, got {data.corpus!r}")
    if data.subset and data.corpus != "librispeech":
        raise ValueError(f"expected data.subset for librispeech only, got {data.subset!r}")
    for name in ("dir", "shards"):
        place = getattr(data, name)
        if place and data.root and Path(place).resolve() == Path(data.root).resolve():
            raise ValueError(
                f"data.{name}={place} is data.root, which is only read: name another folder"
            )
    if not 0 <= data.min_seconds < data.max_seconds:
        raise ValueError(
            f"expected 0 <= data.min_seconds < data.max_seconds, got {data.min_seconds} and "
            f"{data.max_seconds}"
        )
    for name in ("limit", "validation", "test"):
        if getattr(data, name) < 0:
            raise ValueError(f"expected data.{name} >= 0, got {getattr(data, name)}")
    if data.trim_db <= 0:
        raise ValueError(f"expected data.trim_db > 0, got {data.trim_db}")


def select(utterances: list[Utterance], limit: int, notes: Notes) -> list[Utterance]:
    """Return the utterances without repeated ids, at most `limit` of them, chosen by hash."""
    seen: set[str] = set()
    unique = []
    for utterance in utterances:
        if utterance.id in seen:
            notes.drop(utterance.id, utterance.path, "duplicate_id", "the first one is kept")
        else:
            seen.add(utterance.id)
            unique.append(utterance)
    if limit and len(unique) > limit:
        chosen = {u.id for u in sorted(unique, key=lambda u: rank(u.id, "limit"))[:limit]}
        unique = [u for u in unique if u.id in chosen]
    return unique


def common_warnings(kept: list[Row], sample_rate: int) -> list[str]:
    """Return what the user should know of kept clips: lost characters, too low a sample rate."""
    lost: Counter[str] = Counter()
    for row in kept:
        lost.update(row["lost"])
    warnings = []
    if lost:
        named = ", ".join(f"{char!r} ({count})" for char, count in lost.most_common(20))
        warnings.append(f"characters without a symbol were left out of the text: {named}")
    low = Counter(row["rate"] for row in kept if row["rate"] < sample_rate)
    for rate, count in sorted(low.items()):
        warnings.append(
            f"{count} clips are recorded at {rate} Hz, less than audio.sample_rate={sample_rate}: "
            f"they hold nothing above {rate // 2} Hz"
        )
    return warnings


def _split(
    kept: list[Row],
    utterances: list[Utterance],
    before: dict[str, object],
    data: DataSettings,
    notes: Notes,
) -> dict[str, str]:
    """Assign the splits; those of an earlier run stay unless other numbers are asked for."""
    official = {utterance.id: utterance.split for utterance in utterances}
    settings = before.get("settings")
    asked = settings.get("data", {}) if isinstance(settings, dict) else {}
    same = (asked.get("validation"), asked.get("test")) == (data.validation, data.test)
    previous = before.get("split_of")
    clips = [(row["id"], row["speaker"], official[row["id"]]) for row in kept]
    split_of = assign_splits(
        clips, previous if same and isinstance(previous, dict) else {}, data.validation, data.test
    )
    if kept and not {"train", "validation"} <= set(split_of.values()):
        notes.warnings.append(
            f"{len(kept)} clips are too few to train on: it takes some to validate with, and of "
            "each speaker one to train on"
        )
    unused = len(kept) - len(split_of)
    if unused:
        notes.warnings.append(
            f"{unused} clips of the corpus' own validation or test split are in no split, since "
            f"data.validation={data.validation} and data.test={data.test} ask for fewer"
        )
    return split_of
