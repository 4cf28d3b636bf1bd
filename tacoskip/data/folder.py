"""Tables of clips: `metadata.csv` (id|text[|normalised]), or csv, tsv, jsonl with path and text."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tacoskip.data.errors import CorpusError, LayoutError
from tacoskip.data.layout import TABLES, hint
from tacoskip.data.utterance import Notes, Utterance, find_inside, require_folder

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif")
JOURNAL = "clips.jsonl"  # of a prepared corpus: rows, but not a table of recordings
NAMED = 5  # lines that a warning names


def read_lines(path: Path, notes: Notes) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text) of a table in UTF-8, with or without BOM, any line ends.

    Lines that are not UTF-8 are read as cp1252, with a warning that names the first of them.
    Raises CorpusError when the file cannot be read at all.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror}") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raw = raw.decode("utf-16", errors="replace").encode()
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    lines = re.split(rb"\r\n|\n|\r", raw)
    others = list[int]()
    for number, line in enumerate(lines, 1):
        try:
            yield number, line.decode()
        except UnicodeDecodeError:
            others.append(number)
            yield number, line.decode("cp1252", errors="replace")
    if len(others) == 1:
        notes.warnings.append(f"{path.name} line {others[0]} is not UTF-8: read as cp1252")
    elif others:
        first = ", ".join(str(number) for number in others[:NAMED])
        more = ", ..." if len(others) > NAMED else ""
        notes.warnings.append(
            f"{path.name}: {len(others)} lines are not UTF-8: read as cp1252 (lines {first}{more})"
        )


def find_audio(root: Path, stem: str) -> Path | str:
    """Return `wavs/STEM.*` (or STEM.* in the folder itself), or why it may not be read."""
    first = find_inside(root, f"wavs/{stem}.wav")
    if isinstance(first, str) or first.exists():
        return first
    for folder in ("wavs/", ""):
        for suffix in AUDIO_SUFFIXES:
            path = find_inside(root, f"{folder}{stem}{suffix}")
            if isinstance(path, str) or path.exists():
                return path
    return first


def read_pipes(root: Path, table: Path, speaker: str, notes: Notes) -> Iterator[Utterance]:
    """Yield the clips of a table `id|text[|normalised]`; quotes are plain characters in it."""
    yield from _pipe_rows(root, table, list(read_lines(table, notes)), speaker, notes)


def _pipe_rows(
    root: Path, table: Path, lines: list[tuple[int, str]], speaker: str, notes: Notes
) -> Iterator[Utterance]:
    for number, line in lines:
        if not line.strip():
            continue
        columns = [column.strip() for column in line.split("|")]
        if number == 1 and [c.lower() for c in columns[:2]] == ["id", "text"]:
            continue
        id = columns[0]
        if len(columns) not in (2, 3) or not id:
            detail = f"line {number}: expected id|text[|normalised], got {len(columns)} columns"
            notes.drop(id[:80], table, "bad_row", detail)
            continue
        path = find_audio(root, id)
        if isinstance(path, str):
            notes.drop(id, table, "leaves_corpus", f"line {number}: {path}")
            continue
        normalized = columns[2] if len(columns) == 3 and columns[2] else None
        yield Utterance(id, path, columns[1], speaker, normalized)


def require_table(root: Path, name: str) -> Path:
    """Return a table in a corpus' folder.

    Raises LayoutError when there is none, CorpusError when a link leads out of the folder.
    """
    path = find_inside(root, name)
    if isinstance(path, str):
        raise CorpusError(f"cannot read {root / name}: {path}")
    if not path.is_file():
        raise LayoutError(f"expected the table {name} in {root}, found none")
    return path


def read_folder(root: Path, subset: str, notes: Notes) -> Iterator[Utterance]:
    """Any folder with one table: see docs/corpora.md for the columns.

    Raises LayoutError when there is no table, more than one to choose from, or no usable column.
    """
    root = require_folder(root, "folder")
    table = find_table(root)
    if table.suffix == ".jsonl":
        yield from _records(root, table, _json_rows(table, notes), notes)
        return
    lines = list(read_lines(table, notes))
    header = next((line for _, line in lines if line.strip()), "")
    if table.suffix == ".csv" and "|" in header and not re.search(r"\bpath\b", header):
        yield from _pipe_rows(root, table, lines, "speaker", notes)
        return
    delimiter = "\t" if table.suffix == ".tsv" else ("|" if "|" in header else ",")
    yield from _records(root, table, _table_rows(table, lines, delimiter, notes), notes)


def find_table(root: Path) -> Path:
    """Return the folder's table: metadata.csv, .tsv or .jsonl, else the only file of that kind."""
    for name in TABLES:
        if (root / name).is_file():
            return require_table(root, name)
    suffixes = {Path(name).suffix for name in TABLES}
    found = sorted(
        p for p in root.iterdir() if p.suffix in suffixes and p.is_file() and p.name != JOURNAL
    )
    if len(found) != 1:
        names = ", ".join(p.name for p in found)
        instead = (
            f"{names}: call the one to read metadata{found[0].suffix}"
            if found
            else f"none{hint(root, 'folder')}"
        )
        raise LayoutError(f"expected {', '.join(TABLES)} or one table in {root}, found {instead}")
    return require_table(root, found[0].name)


def _json_rows(table: Path, notes: Notes) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in read_lines(table, notes):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            row = f"no JSON ({error})"
        if isinstance(row, dict):
            yield number, {str(k): v for k, v in row.items() if isinstance(v, str)}
        else:
            detail = (
                row if isinstance(row, str) else f"expected an object, got {type(row).__name__}"
            )
            notes.drop("", table, "bad_row", f"line {number}: {detail}")


def _table_rows(
    table: Path, lines: list[tuple[int, str]], delimiter: str, notes: Notes
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a table with a header; a quoted field may run over several lines."""
    reader = csv.reader((line + "\n" for _, line in lines), delimiter=delimiter)
    columns: list[str] = []
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            notes.drop("", table, "bad_row", f"line {start}: {error}")
            continue
        if not any(field.strip() for field in row):
            continue
        if not columns:
            columns = [field.strip().lower() for field in row]
            missing = [name for name in ("path", "text") if name not in columns]
            if missing:
                found = " ".join(", ".join(columns).split())[:200]  # quoted, it may hold lines
                raise LayoutError(
                    f"{table}: expected lines id|text or a header with path and text, got {found}"
                )
        elif len(row) != len(columns):
            detail = f"line {start}: expected {len(columns)} columns, got {len(row)}"
            notes.drop(row[0][:80], table, "bad_row", detail)
        else:
            yield start, dict(zip(columns, (field.strip() for field in row), strict=True))


def _records(
    root: Path, table: Path, rows: Iterator[tuple[int, dict[str, str]]], notes: Notes
) -> Iterator[Utterance]:
    for number, row in rows:
        name, text = row.get("path", ""), row.get("text", "")
        if not name or "text" not in row:
            detail = f"line {number}: expected path and text, got {', '.join(row) or 'nothing'}"
            notes.drop(name, table, "bad_row", detail)
            continue
        path = find_inside(root, name)
        if isinstance(path, str):
            notes.drop(row.get("id") or name, table, "leaves_corpus", f"line {number}: {path}")
            continue
        inside = path if path.is_relative_to(root) else path.resolve()
        id = row.get("id") or inside.relative_to(root).with_suffix("").as_posix()
        speaker = row.get("speaker") or "speaker"
        yield Utterance(id, path, text, speaker, row.get("normalized") or None)
