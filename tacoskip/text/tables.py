"""The words, tables and rules of English, from english.toml, and the rules applied."""

import re
import tomllib
from collections.abc import Callable
from functools import cache, partial
from importlib.resources import files
from typing import Any

ENGLISH: dict[str, Any] = tomllib.loads(
    files("tacoskip.text").joinpath("english.toml").read_text(encoding="utf-8")
)

# By a sign in lower case, the unit that has it in any case.
ANY_CASE = {
    sign.lower(): sign
    for sign in reversed(ENGLISH["units"])
    if len(sign) > 1 and sign not in ENGLISH["exact_units"].split()
}
ENGLISH["any_case_units"] = sorted(ANY_CASE.keys() - {"in"}, key=len, reverse=True)
ENGLISH["exact_case_units"] = ENGLISH["units"].keys() - ANY_CASE.values()


@cache
def words(name: str) -> frozenset[str]:
    return frozenset(ENGLISH[name].split())


def apply_rules(text: str, *names: str) -> str:
    """Replace what each rule of the named groups finds, in their order."""
    for name in names:
        for pattern, reading in _compiled(name):
            text = pattern.sub(reading, text)
    return text


@cache
def _compiled(name: str) -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]:
    from tacoskip.text import readings, templates

    rules = []
    for pattern, template in ENGLISH["rules"][name]:
        if template.startswith("@"):
            reading = getattr(readings, template[1:])
        else:
            reading = partial(templates.fill, template)
        rules.append((re.compile(_expanded(pattern)), reading))
    return rules


def _expanded(pattern: str) -> str:
    """Return a pattern on one line, its macros written out."""
    lines = pattern.splitlines()
    whole = "".join(map(str.strip, lines)) if len(lines) > 1 else pattern
    return re.sub(r"\{\{(=?)(\w+)\}\}", _macro, whole)


def _macro(match: re.Match[str]) -> str:
    spoken, name = match.groups()
    if name in ENGLISH["macros"]:
        return _expanded(ENGLISH["macros"][name])
    entries = ENGLISH[name]
    entries = entries.values() if spoken else entries.split() if type(entries) is str else entries
    return "|".join(map(re.escape, entries))
