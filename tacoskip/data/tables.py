"""Tables of clips as people have them: csv, tsv, jsonl, and text files beside recordings."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tacoskip.audio.io import SUFFIXES
from tacoskip.data.errors import CorpusError, LayoutError
from tacoskip.data.utterance import Notes, Utterance, find_inside

TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
JOURNAL = "clips.jsonl"  # of a prepared corpus: rows, but not a table of recordings
AUDIO_FOLDERS = ("wavs/", "", "clips/", "audio/")
FIELDS = ("path", "text", "speaker", "id", "normalized")
# What other tables call a path and a text: for the option that an error suggests.
LIKELY = {
    "path": ("path", "file", "wav", "audio", "clip", "name"),
    "text": ("text", "sentence", "transcri", "words", "label"),
    "speaker": ("speaker", "client", "who", "voice", "reader"),
}
NAMED = 5  # lines that a warning names
LOOKED_AT = 20  # rows of a table without header that are looked up

Row = tuple[int, dict[str, str]]  # line number from 1, field by name


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


def find_audio(root: Path, name: str) -> Path | str:
    """Return the recording that a table calls `name`, or why it may not be read.

    It lies in the folder or in wavs/, clips/ or audio/, with or without its suffix in the name.
    """
    first = find_inside(root, f"wavs/{name}.wav")
    for folder in AUDIO_FOLDERS:
        for suffix in (".wav", "", *SUFFIXES):
            path = find_inside(root, f"{folder}{name}{suffix}")
            if isinstance(path, str) or path.is_file() or (suffix and path.exists()):
                return path
    return first


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


def read_pipes(root: Path, table: Path, speaker: str, notes: Notes) -> Iterator[Utterance]:
    """Yield the clips of a table `id|text[|normalised]`; quotes are plain characters in it.

    The audio lies beside the table, or in wavs/.
    """
    lines = list(read_lines(table, notes))
    yield from _without_header(root, table, _cells_of(table, lines, "|", notes), speaker, notes)


def parse_columns(columns: str) -> dict[str, str]:
    """Parse data.columns, `path=file,text=sentence`, to a table's column by our field."""
    result = {}
    for pair in filter(None, (pair.strip() for pair in columns.split(","))):
        field, equals, column = pair.partition("=")
        if field not in FIELDS or not equals or not column:
            raise ValueError(
                f"expected data.columns of FIELD=COLUMN by comma, with a field of "
                f"{', '.join(FIELDS)}, got {pair!r}"
            )
        result[field] = column
    return result


def read_folder(root: Path, columns: str, notes: Notes) -> Iterator[Utterance]:
    """Yield the clips of a folder with one table, or with a text file beside each recording.

    columns: data.columns. Raises LayoutError when there is neither, more than one table to choose
    from, or no usable column, ValueError when `columns` is no mapping.
    """
    names = parse_columns(columns)
    table = find_table(root)
    if table is None:
        yield from _pairs(root, notes)
    elif table.suffix == ".jsonl":
        yield from _records(root, table, _json_rows(table, names, notes), notes)
    else:
        yield from _delimited(root, table, names, notes)


def find_table(root: Path) -> Path | None:
    """Return the folder's table: metadata.csv, .tsv or .jsonl, else the only file of that kind."""
    for name in TABLES:
        if (root / name).is_file():
            return require_table(root, name)
    suffixes = {Path(name).suffix for name in TABLES}
    tables = sorted(
        p for p in root.iterdir() if p.suffix in suffixes and p.is_file() and p.name != JOURNAL
    )
    if len(tables) > 1:
        found = ", ".join(path.name for path in tables)
        wanted = f"metadata{tables[0].suffix}"
        raise LayoutError(f"expected one table in {root}, found {found}: rename one to {wanted}")
    return require_table(root, tables[0].name) if tables else None


def _pairs(root: Path, notes: Notes) -> Iterator[Utterance]:
    """Yield recordings with the text file of the same name beside them.

    Where they lie in several folders, the folder's name is the speaker.
    """
    recordings = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not any(path.with_suffix(".txt").is_file() for path in recordings):
        raise LayoutError(
            f"expected {', '.join(TABLES)}, one other table, or ID.txt beside each ID.wav in "
            f"{root}, found none"
        )
    several = len({path.parent for path in recordings}) > 1
    for path in recordings:
        id = path.relative_to(root).with_suffix("").as_posix()
        checked, text = find_inside(root, path), find_inside(root, path.with_suffix(".txt"))
        if isinstance(checked, str) or isinstance(text, str):
            notes.drop(
                id, path, "leaves_corpus", checked if isinstance(checked, str) else str(text)
            )
        elif not text.is_file():
            notes.drop(id, path, "no_text", f"no {text.name} beside it")
        else:
            lines = " ".join(line.strip() for _, line in read_lines(text, notes))
            yield Utterance(id, path, lines.strip(), path.parent.name if several else "speaker")


def _delimited(root: Path, table: Path, names: dict[str, str], notes: Notes) -> Iterator[Utterance]:
    """Read a csv or tsv: its delimiter is the first that gives known columns or known files."""
    lines = list(read_lines(table, notes))
    first = next((line for _, line in lines if line.strip()), "")
    if not first:
        return
    delimiters = [d for d in "|\t;," if d in first] or [","]
    for delimiter in delimiters:
        header = _header(first, delimiter, names)
        if header is not None:
            rows = _named_rows(table, _cells_of(table, lines, delimiter, notes), header, notes)
            yield from _records(root, table, rows, notes)
            return
    for delimiter in delimiters:
        rows = list(_cells_of(table, lines, delimiter, notes))
        stems = [row[0] for _, row in rows[:LOOKED_AT] if row[0]]
        found = any(
            isinstance(p, Path) and p.exists() for p in (find_audio(root, s) for s in stems)
        )
        if (found or delimiter == "|") and not names:
            yield from _without_header(root, table, rows, "speaker", notes)
            return
    raise LayoutError(_unknown_columns(table, first, delimiters[0], names))


def _cells(line: str, delimiter: str) -> list[str]:
    quotes = delimiter in ",;"
    row = next(csv.reader([line], delimiter=delimiter)) if quotes else line.split(delimiter)
    return [cell.strip() for cell in row]


def _header(line: str, delimiter: str, names: dict[str, str]) -> list[str] | None:
    """Return our fields (or the columns' own names) of a header line, None where it is none."""
    cells = _cells(line, delimiter) if line else []
    ours = {column.lower(): field for field, column in names.items()}
    fields = [ours.get(cell.lower(), cell.lower()) for cell in cells]
    return fields if "text" in fields and {"path", "id"} & set(fields) else None


def _unknown_columns(table: Path, line: str, delimiter: str, names: dict[str, str]) -> str:
    columns = _cells(line, delimiter)
    missing = [column for column in names.values() if column not in columns]
    if missing:
        return f"{table.name}: no column '{missing[0]}' (data.columns); it has {', '.join(columns)}"
    chosen: dict[str, str] = {}
    for field, likely in LIKELY.items():
        free = [column for column in columns if column not in chosen.values()]
        match = next((c for word in likely for c in free if word in c.lower()), "")
        if match:
            chosen[field] = match
    option = ",".join(f"{field}={chosen.get(field, 'COLUMN')}" for field in ("path", "text"))
    option += f",speaker={chosen['speaker']}" if "speaker" in chosen else ""
    found = " ".join(", ".join(columns).split())[:200]
    return (
        f"{table}: expected the columns path and text, or lines of id and text, found {found}; "
        f'set data.columns="{option}"'
    )


def _cells_of(
    table: Path, lines: list[tuple[int, str]], delimiter: str, notes: Notes
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table; with , and ; a quoted cell may run over several lines."""
    if delimiter not in ",;":
        for number, line in lines:
            if line.strip():
                yield number, _cells(line, delimiter)
        return
    reader = csv.reader((line + "\n" for _, line in lines), delimiter=delimiter)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            notes.drop("", table, "bad_row", f"line {number}: {error}")
            continue
        if any(cell.strip() for cell in row):
            yield number, [cell.strip() for cell in row]


def _named_rows(
    table: Path, rows: Iterator[tuple[int, list[str]]], header: list[str], notes: Notes
) -> Iterator[Row]:
    next(rows)
    for number, row in rows:
        if len(row) == len(header):
            yield number, dict(zip(header, row, strict=True))
        else:
            detail = f"line {number}: expected {len(header)} columns, got {len(row)}"
            notes.drop(row[0][:80], table, "bad_row", detail)


def _without_header(
    root: Path, table: Path, rows: Iterable[tuple[int, list[str]]], speaker: str, notes: Notes
) -> Iterator[Utterance]:
    """Yield the clips of rows `id, text[, normalised]`."""
    for number, row in rows:
        if number == 1 and [cell.lower() for cell in row[:2]] == ["id", "text"]:
            continue
        if len(row) not in (2, 3) or not row[0]:
            detail = f"line {number}: expected id, text[, normalised], got {len(row)} columns"
            notes.drop(row[0][:80], table, "bad_row", detail)
            continue
        path = find_audio(table.parent, row[0])
        if isinstance(path, str):
            notes.drop(row[0], table, "leaves_corpus", f"line {number}: {path}")
            continue
        normalized = row[2] if len(row) == 3 and row[2] else None
        yield Utterance(row[0], path, row[1], speaker, normalized)


def _json_rows(table: Path, names: dict[str, str], notes: Notes) -> Iterator[Row]:
    ours = {column: field for field, column in names.items()}
    known = False
    for number, line in read_lines(table, notes):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            notes.drop("", table, "bad_row", f"line {number}: no JSON ({error})")
            continue
        if not isinstance(row, dict):
            detail = f"line {number}: expected an object, got {type(row).__name__}"
            notes.drop("", table, "bad_row", detail)
            continue
        fields = {ours.get(str(k), str(k)): v for k, v in row.items() if isinstance(v, str)}
        known = known or ("text" in fields and bool({"path", "id"} & fields.keys()))
        if not known and len(fields) > 1:
            raise LayoutError(_unknown_columns(table, ",".join(map(str, row)), ",", names))
        yield number, fields


def _records(root: Path, table: Path, rows: Iterator[Row], notes: Notes) -> Iterator[Utterance]:
    for number, row in rows:
        name, text = row.get("path") or row.get("id", ""), row.get("text", "")
        if not name or "text" not in row:
            detail = f"line {number}: expected path and text, got {', '.join(row) or 'nothing'}"
            notes.drop(name, table, "bad_row", detail)
            continue
        path = find_inside(root, name)
        if isinstance(path, Path) and not path.is_file():
            path = find_audio(root, name)
        if isinstance(path, str):
            notes.drop(row.get("id") or name, table, "leaves_corpus", f"line {number}: {path}")
            continue
        id = row.get("id") or _id(root, name, path)
        speaker = row.get("speaker") or "speaker"
        yield Utterance(id, path, text, speaker, row.get("normalized") or None)


def _id(root: Path, name: str, path: Path) -> str:
    """Return the id of a clip that has none: its path in the folder without the suffix."""
    if not Path(name).is_absolute():
        return Path(name.replace("\\", "/")).with_suffix("").as_posix()
    inside = path if path.is_relative_to(root) else path.resolve()
    return inside.relative_to(root).with_suffix("").as_posix()
