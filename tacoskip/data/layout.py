"""What a folder looks like: the hint for somebody whose data.root is not laid out as its corpus."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path

TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")


def _is_fsdd(root: Path) -> bool:
    return any(True for _ in chain(root.glob("[0-9]_*_*.wav"), root.glob("recordings/[0-9]_*.wav")))


def _is_librispeech(root: Path) -> bool:
    found = chain(root.glob("*/*/*/*.trans.txt"), root.glob("LibriSpeech/*/*/*/*.trans.txt"))
    return any(True for _ in found)


def _has_table(root: Path) -> bool:
    return any((root / name).is_file() for name in TABLES)


LOOKS: dict[str, Callable[[Path], bool]] = {
    "fsdd": _is_fsdd,
    "vctk": lambda root: (root / "txt").is_dir(),
    "librispeech": _is_librispeech,
    "ljspeech": lambda root: (root / "metadata.csv").is_file() and (root / "wavs").is_dir(),
    "demo": lambda root: (root / "metadata.csv").is_file() and (root / "wavs").is_dir(),
    "folder": _has_table,
}

ANY_MAY_BE = ("fsdd", "vctk", "librispeech", "folder")  # folder reads what the others look like


def is_prepared(root: Path) -> bool:
    """Whether a folder is what `prepare` leaves."""
    return all((root / name).is_file() for name in ("report.json", "train.jsonl.gz"))


def hint(root: Path, corpus: str) -> str:
    """Return what a folder that is not laid out as `corpus` may be instead, or "".

    It may be what `prepare` made, another corpus, or a folder around the one that was meant.
    """
    if is_prepared(root):
        return f"; it is a prepared corpus: say data.dir={root} in place of data.root"
    other = next((name for name in ANY_MAY_BE if LOOKS[name](root)), corpus)
    if other != corpus:
        return f"; it looks like data.corpus={other}"
    try:
        inner = sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        return ""
    meant = next((path for path in inner if LOOKS[corpus](path)), None)
    return f"; did you mean '{meant}'?" if meant else ""
