"""Tables of clips as people have them: csv, tsv, jsonl, and text files beside recordings."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tacoskip.audio.io import SUFFIXES
from tacoskip.data.errors import CorpusError, LayoutError
from tacoskip.data.utterance import Notes, Utterance, find_inside

TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
JOURNAL = "clips.jsonl"  # of a prepared corpus, no table of recordings
AUDIO_FOLDERS = ("wavs/", "", "clips/", "audio/")
FIELDS = ("path", "text", "speaker", "id", "normalized")
WITHOUT_HEADER = ["id", "text", "normalized"]
# What other tables call a path and a text: for the option that an error suggests.
LIKELY = {
    "path": ("path", "file", "wav", "audio", "clip", "name"),
    "text": ("text", "sentence", "transcri", "words", "label"),
    "speaker": ("speaker", "client", "who", "voice", "reader"),
}
NAMED = 5  # lines that a warning names
LOOKED_AT = 20  # rows of a table without header whose recordings are looked for

Cells = tuple[int, list[str]]  # line number from 1, cells of the row


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
    if others:
        named = ", ".join(map(str, others[:NAMED])) + (", ..." if len(others) > NAMED else "")
        notes.warnings.append(f"{path.name} is not UTF-8 in lines {named}: read as cp1252")


def find_audio(root: Path, name: str) -> Path | str:
    """Return the recording that a table calls `name`, or why it may not be read.

    It lies in the folder or in wavs/, clips/ or audio/, with or without its suffix in the name.
    """
    plain, first = find_inside(root, name), find_inside(root, f"wavs/{name}.wav")
    if isinstance(plain, str) or isinstance(first, str) or plain.is_file() or first.exists():
        return plain if isinstance(plain, str) or plain.is_file() else first
    for folder in AUDIO_FOLDERS:
        for suffix in ("", *SUFFIXES):
            if (root / f"{folder}{name}{suffix}").is_file():
                return find_inside(root, f"{folder}{name}{suffix}")
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

    root: the folder with the recordings, or with wavs/.
    """
    cells = _cells(table, list(read_lines(table, notes)), "|", notes)
    yield from _utterances(root, table, cells, WITHOUT_HEADER, notes, speaker)


def parse_columns(columns: str) -> dict[str, str]:
    """Parse data.columns, `path=file,text=sentence`: our field by the table's column."""
    result = {}
    for pair in filter(None, (pair.strip() for pair in columns.split(","))):
        field, equals, column = pair.partition("=")
        if field not in FIELDS or not equals or not column:
            raise ValueError(
                f"expected data.columns of FIELD=COLUMN by comma, with a field of "
                f"{', '.join(FIELDS)}, got {pair!r}"
            )
        result[column.lower()] = field
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
        return
    lines = [(number, line) for number, line in read_lines(table, notes) if line.strip()]
    if lines and table.suffix == ".jsonl":
        yield from _json(root, table, lines, names, notes)
    elif lines:
        header, cells = _delimited(root, table, lines, names, notes)
        yield from _utterances(root, table, cells, header, notes)


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
            refused = checked if isinstance(checked, str) else str(text)
            notes.drop(id, path, "leaves_corpus", refused)
        elif not text.is_file():
            notes.drop(id, path, "no_text", f"no {text.name} beside it")
        else:
            lines = " ".join(line.strip() for _, line in read_lines(text, notes))
            yield Utterance(id, path, lines.strip(), path.parent.name if several else "speaker")


def _delimited(
    root: Path,
    table: Path,
    lines: list[tuple[int, str]],
    names: dict[str, str],
    notes: Notes,
) -> tuple[list[str], Iterator[Cells]]:
    """Return the header, as our fields, and the rows of a csv or tsv.

    The delimiter is the first with which the header has known columns or the rows known files.
    """
    for delimiter in (d for d in "|\t;," if d in lines[0][1]):
        cells = _cells(table, lines, delimiter, notes)
        header = _fields(next(cells)[1], names)
        if _is_complete(header):
            return header, cells
    for delimiter in (d for d in "|\t;," if d in lines[0][1] and not names):
        rows = list(_cells(table, lines, delimiter, Notes()))[:LOOKED_AT]
        paths = [find_audio(root, row[0]) for _, row in rows if row[0]]
        if delimiter == "|" or any(isinstance(path, Path) and path.exists() for path in paths):
            return WITHOUT_HEADER, _cells(table, lines, delimiter, notes)
    first = next(_cells(table, lines, "\t" if "\t" in lines[0][1] else ",", notes))[1]
    raise LayoutError(_unknown_columns(table, first, names))


def _fields(columns: list[str], names: dict[str, str]) -> list[str]:
    return [names.get(column.lower(), column.lower()) for column in columns]


def _is_complete(fields: list[str]) -> bool:
    return "text" in fields and ("path" in fields or "id" in fields)


def _unknown_columns(table: Path, columns: list[str], names: dict[str, str]) -> str:
    """Return the message that names a table's columns and the option to type."""
    found = " ".join(", ".join(columns).split())[:200]
    missing = names.keys() - {column.lower() for column in columns}
    if missing:
        return f"{table.name}: no column '{min(missing)}' (data.columns); it has {found}"
    chosen: dict[str, str] = {}
    for field, likely in LIKELY.items():
        free = [column for column in columns if column not in chosen.values()]
        match = next((c for word in likely for c in free if word in c.lower()), "")
        if match or field != "speaker":
            chosen[field] = match or "COLUMN"
    option = ",".join(f"{field}={column}" for field, column in chosen.items())
    return (
        f"{table}: expected the columns path and text, or lines of id and text, found {found}; "
        f'set data.columns="{option}"'
    )


def _cells(
    table: Path, lines: list[tuple[int, str]], delimiter: str, notes: Notes
) -> Iterator[Cells]:
    """Yield the rows of a table; with , and ; a quoted cell may run over several lines."""
    if delimiter not in ",;":
        for number, line in lines:
            if line.strip():
                yield number, [cell.strip() for cell in line.split(delimiter)]
        return
    reader = csv.reader((line + "\n" for _, line in lines), delimiter=delimiter)
    while True:
        number = lines[min(reader.line_num, len(lines) - 1)][0]
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            notes.drop("", table, "bad_row", f"line {number}: {error}")
            continue
        if any(cell.strip() for cell in row):
            yield number, [cell.strip() for cell in row]


def _json(
    root: Path,
    table: Path,
    lines: list[tuple[int, str]],
    names: dict[str, str],
    notes: Notes,
) -> Iterator[Utterance]:
    known = False
    for number, line in lines:
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, got {type(row).__name__}")
        except (ValueError, RecursionError) as error:
            notes.drop("", table, "bad_row", f"line {number}: no JSON object ({error})")
            continue
        texts = {name: value for name, value in row.items() if isinstance(value, str)}
        fields = _fields(list(texts), names)
        known = known or _is_complete(fields)
        if not known and len(row) > 1:
            raise LayoutError(_unknown_columns(table, list(row), names))
        yield from _utterances(root, table, iter([(number, list(texts.values()))]), fields, notes)


def _utterances(
    root: Path,
    table: Path,
    rows: Iterator[Cells],
    header: list[str],
    notes: Notes,
    speaker: str = "speaker",
) -> Iterator[Utterance]:
    """Yield the clips of rows with the fields `header`; speaker: of rows that name none."""
    least = 2 if header is WITHOUT_HEADER else len(header)
    for number, row in rows:
        fields = dict(zip(header, row, strict=False))
        name = fields.get("path") or fields.get("id", "")
        if not least <= len(row) <= len(header) or not name or "text" not in fields:
            detail = f"line {number}: expected {', '.join(header)}, got {len(row)} columns"
            notes.drop((row or [""])[0][:80], table, "bad_row", detail)
            continue
        path = find_audio(root, name)
        if isinstance(path, str):
            notes.drop(fields.get("id") or name, table, "leaves_corpus", f"line {number}: {path}")
            continue
        id = fields.get("id") or _id(root, name, path)
        by = fields.get("speaker") or speaker
        yield Utterance(id, path, fields["text"], by, fields.get("normalized") or None)


def _id(root: Path, name: str, path: Path) -> str:
    """Return the id of a clip that has none: its path in the folder without the suffix."""
    if not Path(name).is_absolute():
        return Path(name.replace("\\", "/")).with_suffix("").as_posix()
    inside = path if path.is_relative_to(root) else path.resolve()
    return inside.relative_to(root).with_suffix("").as_posix()
