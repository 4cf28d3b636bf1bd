"""Counts the faults that tests inject, and what became of them; the table at the end of a run.

TACOSKIP_FUZZ: cases of a long fuzz test (5000), those of slow readers a share of it.
TACOSKIP_FAULTS_JSON: a file that takes the table as JSON too.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tacoskip.config import Config, field_kinds

SHORT, LONG = 30, int(os.environ.get("TACOSKIP_FUZZ", "5000"))
PROPERTY = "faults injected and survived"

Fuzz = Callable[..., None]
KEYS = st.sampled_from(sorted(field_kinds(Config)))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


def one_line(error: BaseException, named: object = "") -> None:
    """An error's words are one line that names something."""
    assert str(error) and "\n" not in str(error) and str(named) in str(error)


@st.composite
def damaged(draw: st.DrawFn, wholes: list[bytes]) -> bytes:
    """One of the files with bytes changed, cut out, put in, or cut off."""
    content = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(1, 4))):
        # Headers are where it hurts: half of the changes are in the first or last 100 bytes.
        place = draw(
            st.integers(0, len(content))
            | st.integers(0, min(100, len(content)))
            | st.integers(max(0, len(content) - 100), len(content))
        )
        few = draw(st.binary(max_size=8) | st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff"]))
        how = draw(st.integers(0, 4))
        if how <= 1:
            content[place : place + len(few)] = few
        elif how == 2:
            content[place:place] = few
        elif how == 3:
            del content[place : place + draw(st.integers(0, 200))]
        else:
            del content[place:]
    return bytes(content)


class Ledger:
    """Faults that one test injects, by kind: how many, and how many were survived."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = {}

    def add(self, kind: str, injected: int, survived: int) -> None:
        count = self.counts.setdefault(kind, [0, 0])
        count[0] += injected
        count[1] += survived

    @contextmanager
    def __call__(self, kind: str, faults: int = 1) -> Iterator[None]:
        """Faults that are survived when the block ends without an exception."""
        survived = 0
        try:
            yield
            survived = faults
        finally:
            self.add(kind, faults, survived)


@pytest.fixture
def inject(
    request: pytest.FixtureRequest, record_property: Callable[[str, Any], None]
) -> Iterator[Ledger]:
    """The ledger of a test; its counts stand in the table where the test is marked."""
    ledger = Ledger()
    yield ledger
    if any(request.node.get_closest_marker(name) for name in ("faults", "load")):
        record_property(PROPERTY, ledger.counts)


@pytest.fixture(params=["short", pytest.param("long", marks=pytest.mark.faults)])
def fuzz(request: pytest.FixtureRequest, inject: Ledger) -> Fuzz:
    """Runs a check on many drawn values: the same few in every run, or thousands of new ones."""
    long = request.param == "long"

    def run(
        kind: str,
        check: Callable[[Any], None],
        strategy: SearchStrategy[Any],
        share: float = 1.0,
    ) -> None:
        ran = 0

        def body(value: Any) -> None:
            nonlocal ran
            ran += 1
            check(value)

        cases = max(10, round((LONG if long else SHORT) * share))
        choose = settings(
            max_examples=cases,
            deadline=None,
            database=None,
            derandomize=not long,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        failed = 1
        try:
            choose(given(strategy)(body))()
            failed = 0
        finally:
            inject.add(kind, ran, ran - failed)
            print(f"{kind}: {ran} cases")

    return run


class Table:
    """Gathers the counts of all tests, also of those that ran in other processes."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        for name, value in report.user_properties:
            if name == PROPERTY:
                for kind, (injected, survived) in value.items():
                    count = self.counts.setdefault(kind, [0, 0])
                    count[0] += injected
                    count[1] += survived

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.counts:
            return
        rows = [(kind, i, s, i - s) for kind, (i, s) in sorted(self.counts.items())]
        rows.append(("all", *(sum(row[n] for row in rows) for n in (1, 2, 3))))
        terminalreporter.section("faults")
        write = terminalreporter.write_line
        write("| fault | injected | survived | lost |")
        write("|---|---|---|---|")
        for kind, *numbers in rows:
            write(f"| {kind} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
        path = os.environ.get("TACOSKIP_FAULTS_JSON")
        if path:
            names = ("injected", "survived", "lost")
            table = {kind: dict(zip(names, numbers, strict=True)) for kind, *numbers in rows}
            with open(path, "w", encoding="utf-8") as file:
                json.dump(table, file, indent=1)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Table(), "table of faults")
