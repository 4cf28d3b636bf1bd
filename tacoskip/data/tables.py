"""Tables of clips as people have them: csv, tsv, and text files beside recordings."""

import csv
import os
import re
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tacoskip.audio.io import SUFFIXES
from tacoskip.data.errors import CorpusError, LayoutError
from tacoskip.data.utterance import Notes, Utterance, find_inside
from tacoskip.files import read_regular

FIELDS = ("path", "text", "speaker", "id", "normalized")
WITHOUT_HEADER = ["id", "text", "normalized"]
LARGEST_TABLE = 1 << 30  # bytes
LOOKED_AT = 20  # rows that tell whether a table without header has the usual columns

Cells = Iterator[tuple[int, list[str]]]  # line number and cells of each row


def read_lines(root: Path, table: Path, notes: Notes) -> list[str]:
    """Return the lines of a table in UTF-8, with or without BOM, any line ends.

    Lines that are not UTF-8 are read as cp1252, with a warning.
    Raises LayoutError when there is no such file, CorpusError when it cannot be read or lies
    outside of `root`.
    """
    find_inside(root, table)
    try:
        raw = read_regular(table, LARGEST_TABLE)
    except FileNotFoundError:
        raise LayoutError(f"expected {table.name} in {table.parent}, found none") from None
    except (OSError, ValueError) as error:
        raise CorpusError(f"cannot read {table}: {error}") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raw = raw.decode("utf-16", errors="replace").encode()
    lines, others = list[str](), 0
    for line in re.split(rb"\r\n|\n|\r", raw.removeprefix(BOM_UTF8)):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError:
            lines.append(line.decode("cp1252", errors="replace"))
            others += 1
    if others:
        notes.warnings.append(f"{table.name}: {others} lines are not UTF-8, read as cp1252")
    return lines


def find_audio(root: Path, name: str) -> Path:
    """Return the recording that a table calls `name`, whose accents may be composed or not.

    It lies in the folder or in wavs/, clips/ or audio/, with or without its suffix in the name.
    """
    forms = dict.fromkeys((name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))))
    stems = (root / folder / form for form in forms for folder in ("", "wavs", "clips", "audio"))
    suffixes = ("", *SUFFIXES, *map(str.upper, SUFFIXES))
    paths = (Path(f"{stem}{suffix}") for stem in stems for suffix in suffixes)
    missing = name if name.lower().endswith(SUFFIXES) else f"{name}.wav"
    return next(filter(os.path.isfile, paths), root / "wavs" / missing)


def read_pipes(root: Path, table: Path, speaker: str, notes: Notes) -> Iterator[Utterance]:
    """Yield the clips of a table `id|text[|normalised]`; quotes are plain characters in it.

    root: the folder with the recordings, or with wavs/.
    """
    cells = _cells(table, read_lines(root, table, notes), "|", notes)
    yield from _utterances(root, table, WITHOUT_HEADER, cells, notes, speaker)


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
    lines = read_lines(root, table, notes)
    if any(map(str.strip, lines)):
        header, cells = _header(root, table, lines, names, notes)
        yield from _utterances(root, table, header, cells, notes)


def find_table(root: Path) -> Path | None:
    """Return the folder's table: metadata.csv or .tsv, else the only file of that kind."""
    tables = sorted(p for p in root.iterdir() if p.suffix in (".csv", ".tsv") and p.is_file())
    named = [table for table in tables if table.stem == "metadata"]
    if len(tables) > 1 and not named:
        found = ", ".join(path.name for path in tables)
        wanted = f"metadata{tables[0].suffix}"
        raise LayoutError(f"expected one table in {root}, found {found}: rename one to {wanted}")
    return next(iter(named + tables), None)


def _pairs(root: Path, notes: Notes) -> Iterator[Utterance]:
    """Yield recordings with the text file of the same name beside them.

    Where they lie in several folders, the folder's name is the speaker.
    """
    found = (path for path in root.rglob("[!.]*") if path.suffix.lower() in SUFFIXES)
    recordings = sorted(filter(Path.is_file, found))
    if not any(path.with_suffix(".txt").is_file() for path in recordings):
        raise LayoutError(
            "expected metadata.csv, metadata.tsv, one other table, or ID.txt beside each ID.wav in "
            f"{root}, found none"
        )
    several = len({path.parent for path in recordings}) > 1
    for path in recordings:
        id = path.relative_to(root).with_suffix("").as_posix()
        text = path.with_suffix(".txt")
        if not text.is_file():
            notes.drop(id, path, "no_text", f"no {text.name} beside it")
            continue
        words = " ".join(map(str.strip, read_lines(root, text, notes))).strip()
        yield Utterance(id, path, words, path.parent.name if several else "speaker")


def _header(
    root: Path, table: Path, lines: list[str], names: dict[str, str], notes: Notes
) -> tuple[list[str], Cells]:
    """Return the header, as our fields, and the rows of a csv or tsv.

    The delimiter is the first with which the header has known columns or the first row a file.
    """
    first = next(filter(str.strip, lines))
    present = [delimiter for delimiter in "|\t;," if delimiter in first]
    for delimiter in present:
        cells = _cells(table, lines, delimiter, notes)
        header = [
            names.get(name, "" if name in names.values() else name)
            for name in map(str.lower, _first_row(cells))
        ]
        if "text" in header and ("path" in header or "id" in header):
            return header, cells
    for delimiter in present if not names else []:
        rows = [row for _, row in islice(_cells(table, lines, delimiter, Notes()), LOOKED_AT)]
        # Commas in texts that are not quoted make some rows longer than others.
        width = max(2, min(map(len, rows), default=2)) if delimiter in ",;" else 3
        found = (os.path.isfile(find_audio(root, row[0])) for row in rows[:1])
        if (delimiter == "|" or any(found)) and (width == 2 or _third_is_text(rows)):
            return WITHOUT_HEADER[:width], _cells(table, lines, delimiter, notes)
    columns = _first_row(_cells(table, lines, (present or ",")[0], notes))
    missing = [column for column in names if column not in map(str.lower, columns)]
    wanted = f"no column '{missing[0]}'" if missing else "expected the columns path and text"
    shown = " ".join(", ".join(columns).split())[:200] or "none"  # a quoted cell may hold lines
    raise LayoutError(
        f'{table}: {wanted}, found {shown}; name them: data.columns="path=COLUMN,text=COLUMN", or '
        "in a first line, path|text"
    )


def _third_is_text(rows: list[list[str]]) -> bool:
    """Whether third columns repeat words of the second, as a speaker or another text would not."""
    both = [[set(cell.lower().split()) for cell in row[1:3]] for row in rows if any(row[2:3])]
    return 2 * sum(bool(text & words) for text, words in both) >= len(both)


def _first_row(cells: Cells) -> list[str]:
    return next(cells, (0, list[str]()))[1]


def _cells(table: Path, lines: list[str], delimiter: str, notes: Notes) -> Cells:
    """Yield a table's rows; with , and ; a quoted cell may run over several lines."""
    quoting = csv.QUOTE_MINIMAL if delimiter in ",;" else csv.QUOTE_NONE
    texts = (line + "\n" for line in lines)
    reader = csv.reader(texts, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    while True:
        try:
            row = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            notes.drop("", table, "bad_row", f"line {reader.line_num}: {error}")
            continue
        if any(row):
            yield reader.line_num, row


def _utterances(
    root: Path, table: Path, header: list[str], cells: Cells, notes: Notes, speaker: str = "speaker"
) -> Iterator[Utterance]:
    """Yield the clips of rows with the fields `header`; speaker: of rows that name none."""
    least = 2 if header == WITHOUT_HEADER else len(header)
    for number, row in cells:
        fields = dict(zip(header, row, strict=False))
        name = (fields.get("path") or fields.get("id", "")).replace("\\", "/")
        if not least <= len(row) <= len(header) or not name or "\0" in name:
            detail = f"line {number}: expected {', '.join(header)}, got {len(row)} columns"
            notes.drop(row[0][:80], table, "bad_row", detail)
            continue
        # Without an id it is the path in the folder, without the suffix.
        inside = os.path.splitext(Path(name.removeprefix(f"{root}/")).as_posix())[0]
        by, normalized = fields.get("speaker") or speaker, fields.get("normalized") or None
        path = find_audio(root, name)
        yield Utterance(fields.get("id") or inside, path, fields["text"], by, normalized)
