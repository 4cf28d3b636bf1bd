"""Results of `prepare` by clip, kept so that running again does only what is missing.

One JSON line a clip, appended as results come; a line cut short by a crash is ignored, and the
clip done again. A result holds as long as its key: the clip's file (name, size and time) and every
setting that changes the prepared audio. Texts are read anew each time.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from tacoskip.data.settings import DataSettings
from tacoskip.files import write_whole

VERSION = 3  # raise when the checks or the prepared audio change


def settings_key(data: DataSettings, sample_rate: int) -> str:
    """Return a digest of what changes a prepared clip besides its own file."""
    return digest([VERSION, data.max_seconds, sample_rate])


def clip_key(path: Path, settings: str) -> str:
    """Return the digest under which the result of the clip in `path` is kept."""
    try:
        stat = path.stat()
        state = [stat.st_size, stat.st_mtime_ns]
    except OSError:
        state = []
    return digest([settings, path.name, *state])


def digest(values: list[Any]) -> str:
    """Return 24 hexadecimal digits that stand for the values."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:24]


def is_result(row: dict[str, Any]) -> bool:
    """Whether a row of a journal is what `check_clips` writes: a refusal, or a clip's figures."""
    if "reason" in row:
        return isinstance(row["reason"], str) and isinstance(row.get("detail"), str)
    figures: list[Any] = [
        row.get(name) for name in ("samples", "seconds", "rate", "level_db", "clipped")
    ]
    numbers = all(type(value) in (int, float) and math.isfinite(value) for value in figures)
    return numbers and type(row["samples"]) is int and min(figures[:3]) > 0


class Journal:
    """Results by clip id, in a file that grows by whole lines; what is no result is passed over.

    Lines are held as they are: a clip's takes a quarter of what it takes when it is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, bytes] = {}
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        for line in lines:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and isinstance(row.get("id"), str):
                self.lines[row["id"]] = line
        # A cut line must not swallow the next one that is appended.
        self._file = path.open("ab")
        if lines and lines[-1]:
            self._file.write(b"\n")

    def get(self, id: str, key: str) -> dict[str, Any] | None:
        """Return the result of a clip, or None when there is none for this key."""
        line = self.lines.get(id)
        row = json.loads(line) if line is not None else {}
        return row if row.get("key") == key else None

    def add(self, row: dict[str, Any]) -> None:
        """Keep a result: a dict with `id` and `key`."""
        line = json.dumps(row).encode()
        self.lines[row["id"]] = line
        self._file.write(line + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def compact(self) -> None:
        """Rewrite the closed file with one line a clip."""
        write_whole(self.path, b"".join(line + b"\n" for line in self.lines.values()))
