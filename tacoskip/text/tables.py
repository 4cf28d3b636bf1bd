"""The words and tables of English that the rules look in, from english.toml."""

import tomllib
from importlib.resources import files
from typing import Any

_ENGLISH: dict[str, Any] = tomllib.loads(
    files("tacoskip.text").joinpath("english.toml").read_text(encoding="utf-8")
)


def words(name: str) -> frozenset[str]:
    return frozenset(_ENGLISH[name].split())


def table(name: str) -> dict[str, Any]:
    """Return a table from the written form to the spoken one, or to its forms in a list."""
    return dict(_ENGLISH[name])
