"""Parts of messages: the nearest known name, human units, values that JSON can hold."""

import os
import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any

# User and password; behind a "/" in them stands a port that is no number, or no host.
SECRETS = re.compile(r"://([^/\s]*|[^/\s:]*:(?!\d*/).*)@(/.*@)?")


def nearest_name(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return the known name most like `name`, or "" when none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return near[0] if near else ""


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return "; did you mean 'X'?", or "" when no known name is near."""
    near = nearest_name(name, known, cutoff)
    return f"; did you mean '{near}'?" if near else ""


def known(kind: str, name: str, among: Collection[str]) -> str:
    """Return the name; ValueError with the nearest one unless it is `among` those known."""
    if name in among:
        return name
    hint = f"{nearest(name, among)} (known: {', '.join(among)})"
    raise ValueError(f"unknown {kind} '{name}'{hint}")


def nearest_path(path: str | Path) -> str:
    """Return "; did you mean 'X'?" with the name in the same folder most like a missing one."""
    parent = Path(path).parent
    names = [other.name for other in parent.iterdir()] if parent.is_dir() else []
    near = nearest_name(Path(path).name, names, cutoff=0.6)
    return f"; did you mean '{parent / near}'?" if near else ""


def without_secrets(place: str) -> str:
    """Return an address without user, password, query and fragment, which may hold a token."""
    return re.split("[?#;]", SECRETS.sub("://", place))[0] if "://" in place else place


def with_secrets(place: str) -> str:
    """Return the address in TACOSKIP_ADDRESS where it is `place` without its secrets."""
    address = os.environ.get("TACOSKIP_ADDRESS", "")
    return address if address and without_secrets(address) == place else place


def printable(line: str) -> str:
    """Return a line without control characters, which a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in line)


def human_duration(seconds: float) -> str:
    """Return a duration as people say it: 42 s, 1.5 min, 3.2 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def human_bytes(count: float) -> str:
    """Return a size with a decimal unit: 512 B, 4.2 MB, 1.3 GB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def plain_values(value: Any) -> Any:
    """Return a value as JSON can hold it: NaN and infinities, which JSON lacks, are None."""
    if isinstance(value, dict):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain_values(item) for item in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, bool | int | str) or value is None:
        return value
    return plain_values(value.item()) if hasattr(value, "item") else str(value)
