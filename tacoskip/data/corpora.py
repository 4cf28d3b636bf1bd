"""Readers of known corpora: a folder in, `Utterance`s out, every bad row noted and none fatal."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tacoskip.data.errors import LayoutError
from tacoskip.data.folder import read_folder, read_lines, read_pipes, require_table
from tacoskip.data.layout import hint
from tacoskip.data.utterance import Notes, Utterance, find_inside, require_folder

Reader = Callable[[Path, str, Notes], Iterator[Utterance]]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FSDD_NAME = re.compile(r"(\d)_([A-Za-z0-9]+)_(\d+)\.wav")
LIBRISPEECH_SUBSETS = "train-clean-100,dev-clean,test-clean"


def read_ljspeech(root: Path, subset: str, notes: Notes) -> Iterator[Utterance]:
    """LJSpeech 1.1: `metadata.csv` (id|text|normalised text) and `wavs/ID.wav`.

    The third column is the text as spoken words and is used where it is there and not empty.
    """
    root = require_folder(root, "ljspeech")
    yield from read_pipes(root, _metadata(root, "ljspeech"), "LJ", notes)


def read_fsdd(root: Path, subset: str, notes: Notes) -> Iterator[Utterance]:
    """Free Spoken Digit Dataset: `recordings/{digit}_{speaker}_{take}.wav`, takes 0-4 are test."""
    root = require_folder(root, "fsdd")
    folder = root / "recordings" if (root / "recordings").is_dir() else root
    found = sorted(folder.glob("*.wav"))
    if not any(FSDD_NAME.fullmatch(path.name) for path in found):
        instead = f"{len(found)} other wavs" if found else "none"
        said = f"expected DIGIT_SPEAKER_TAKE.wav in {folder}, found {instead}"
        raise LayoutError(f"{said}{hint(root, 'fsdd')}")
    for path in found:
        match = FSDD_NAME.fullmatch(path.name)
        if match is None:
            notes.drop(path.stem, path, "bad_row", "expected the name DIGIT_SPEAKER_TAKE.wav")
            continue
        checked = find_inside(root, str(path.relative_to(root)))
        if isinstance(checked, str):
            notes.drop(path.stem, path, "leaves_corpus", checked)
            continue
        digit, speaker, take = match.groups()
        split = "test" if int(take) < 5 else None
        word = DIGITS[int(digit)]
        yield Utterance(path.stem, path, word, speaker, normalized=word, split=split)


def read_vctk(root: Path, subset: str, notes: Notes) -> Iterator[Utterance]:
    """VCTK 0.92 (flac, microphone 1) or 0.80 (wav48): `txt/SPEAKER/ID.txt` beside the audio."""
    root = require_folder(root, "vctk")
    inner = [p for p in (root, root / "VCTK-Corpus-0.92", root / "VCTK-Corpus") if p.is_dir()]
    base = next((p for p in inner if (p / "txt").is_dir()), None)
    if base is None:
        raise LayoutError(f"expected VCTK's folder txt/ in {root}, found none{hint(root, 'vctk')}")
    for text_path in sorted((base / "txt").glob("*/*.txt")):
        id, speaker = text_path.stem, text_path.parent.name
        names = (
            f"wav48_silence_trimmed/{speaker}/{id}_mic1.flac",
            f"wav48/{speaker}/{id}.wav",
        )
        name = next((n for n in names if (base / n).exists()), names[0])
        path, text = find_inside(base, name), find_inside(base, f"txt/{speaker}/{id}.txt")
        if isinstance(path, str) or isinstance(text, str):
            notes.drop(
                id, base / name, "leaves_corpus", str(path if isinstance(path, str) else text)
            )
            continue
        lines = [line for _, line in read_lines(text, notes) if line.strip()]
        yield Utterance(id, path, " ".join(lines).strip(), speaker)


def read_librispeech(root: Path, subset: str, notes: Notes) -> Iterator[Utterance]:
    """LibriSpeech: `SUBSET/SPEAKER/CHAPTER/*.trans.txt` (ID TEXT) beside `ID.flac`.

    subset: parts by comma. `dev-*` is the validation split, `test-*` the test split: the
    corpus' own, whose speakers are in no training part.
    """
    root = require_folder(root, "librispeech")
    for part in [name.strip() for name in (subset or LIBRISPEECH_SUBSETS).split(",")]:
        places = (root / part / "LibriSpeech" / part, root / "LibriSpeech" / part, root / part)
        folder = next((place for place in places if place.is_dir()), None)
        if folder is None:
            there = sorted({p.parents[2].name for p in root.glob("**/*/*/*.trans.txt")})
            instead = f"{', '.join(there)}: say data.subset=" if there else "none"
            instead += "" if there else hint(root, "librispeech")
            raise LayoutError(f"expected LibriSpeech's part {part} in {root}, found {instead}")
        split = {"dev": "validation", "test": "test"}.get(part.split("-")[0])
        for found in sorted(folder.glob("*/*/*.trans.txt")):
            table = require_table(root, str(found.relative_to(root)))
            speaker = table.parent.parent.name
            for number, line in read_lines(table, notes):
                if not line.strip():
                    continue
                id, _, text = line.strip().partition(" ")
                path = find_inside(root, f"{table.parent.relative_to(root)}/{id}.flac")
                if isinstance(path, str):
                    notes.drop(id, table, "leaves_corpus", f"line {number}: {path}")
                    continue
                yield Utterance(id, path, text, speaker, split=split)


def read_demo(root: Path, subset: str, notes: Notes) -> Iterator[Utterance]:
    """The demo corpus once spoken (data/demo.py): laid out as LJSpeech is."""
    root = require_folder(root, "demo")
    yield from read_pipes(root, _metadata(root, "demo"), "demo", notes)


def _metadata(root: Path, corpus: str) -> Path:
    try:
        return require_table(root, "metadata.csv")
    except LayoutError as error:
        raise LayoutError(f"{error}{hint(root, corpus)}") from None


READERS: dict[str, Reader] = {
    "ljspeech": read_ljspeech,
    "vctk": read_vctk,
    "fsdd": read_fsdd,
    "librispeech": read_librispeech,
    "folder": read_folder,
    "demo": read_demo,
}
