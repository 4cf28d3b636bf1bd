"""The tables of a comparison, for the terminal and the report alike."""

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from tacoskip.ablation.compare import DIRECTIONS, Comparison
from tacoskip.ablation.intervals import Summary
from tacoskip.ablation.plan import LADDER
from tacoskip.ablation.statistics import Difference
from tacoskip.messages import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
    from rich.text import Text

ARROWS = {1: " ↑", -1: " ↓", 0: ""}
# Costs with their titles and decimals.
COSTS = {
    **{"parameters": ("parameters", 0), "macs_per_frame": ("MACs/frame", 0)},
    **{"latency_ms": ("ms", 1), "peak_memory_mb": ("MB", 1)},
    "initial_correlation": ("start corr", 2),
}
# Columns of text; all others hold numbers.
TEXT = ("variant", "run", "verdict", "needed", "state", "why", "start")


@dataclass
class Table:
    """Columns and rows of text. The first column names the row.

    Printed with rich, a table that is too wide is split into several with the first column
    repeated. Neither names nor numbers are shortened; a long name is broken after its commas.
    """

    columns: list[str]
    rows: list[list[str]]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich import box
        from rich.table import Table as RichTable

        width = options.max_width
        rows = [
            [row[0] if len(row[0]) <= width // 3 else row[0].replace(",", ",\n"), *row[1:]]
            for row in self.rows
        ]
        for indices in self._parts(rows, width):
            grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False)
            for index in indices:
                column = self.columns[index]
                justify: Literal["left", "right"] = "left" if column in TEXT else "right"
                grid.add_column(_text(column), justify=justify, overflow="fold", no_wrap=index > 0)
            for row in rows:
                grid.add_row(*(_text(row[index]) for index in indices))
            yield grid
            yield ""

    def _parts(self, rows: list[list[str]], width: int) -> list[list[int]]:
        """Return the columns of tables that each fit into `width` characters."""
        sizes = [
            max(len(line) for cell in column for line in cell.split("\n")) + 3  # and its border
            for column in zip(self.columns, *rows, strict=True)
        ]
        parts, used = [[0]], sizes[0]
        for index, size in enumerate(sizes[1:], 1):
            if used + size > width and len(parts[-1]) > 1:
                parts.append([0])
                used = sizes[0]
            parts[-1].append(index)
            used += size
        return parts


def _text(text: str) -> "Text":
    """Return a text in which neither markup nor control characters count."""
    from rich.text import Text

    return Text("\n".join(map(printable, text.split("\n"))))


def overview(comparison: Comparison) -> "Group":
    """Return the tables for a terminal: the verdicts in each figure, then the costs."""
    from rich.console import Group

    title = f"{comparison.folder}: {comparison.recipe}, baseline {comparison.baseline}"
    parts: list[RenderableType] = []
    for figure in comparison.figures:
        table = figure_table(comparison, figure)
        rows = [row[:-1] for row in table.rows]  # the reasons are in the report
        parts += [Table(table.columns[:-1], rows), _text(comparison.precision(figure) + "\n")]
    if LADDER[-1] in comparison.figures:
        parts.append(ladder(comparison))
    return Group(_text(title), *parts, costs(comparison))


def figure_table(comparison: Comparison, figure: str) -> Table:
    """Return the verdicts in one figure: mean and sd, difference, simultaneous interval, and p."""
    analysis = comparison.analyses[figure]
    rows = []
    for variant in comparison.variants:
        done, planned = len(variant.seeds), variant.planned
        summary = analysis.summaries.get(variant.name, Summary(0))
        mean, sd = (comparison.text(figure, x) for x in (summary.mean, summary.sd))
        own = [mean if summary.sd is None else f"{mean} ± {sd}"]
        difference = analysis.differences.get(variant.name)
        if difference:
            own += _cells(comparison, figure, difference)
        else:
            own += ["", "baseline" if variant.name == comparison.baseline else "-", *[""] * 5]
        rows.append([variant.name, str(done) if done == planned else f"{done} of {planned}", *own])
    titles = [f"{figure}{ARROWS[DIRECTIONS.get(figure, 0)]} ± sd", "difference", "verdict"]
    interval = f"{100 - 100 * comparison.level:.3g} % interval"
    titles += [interval, "p", "P(better)", "needed", "why"]
    return Table(["variant", "seeds", *titles], rows)


def _cells(comparison: Comparison, figure: str, one: Difference) -> list[str]:
    low, high, mean = (comparison.text(figure, x, "+") for x in (one.low, one.high, one.mean))
    p = "-" if one.p is None else "< 0.001" if one.p < 0.001 else f"{one.p:.3f}"
    return [
        mean,
        one.verdict,
        "-" if one.low is None else f"{low} to {high}",
        p,
        "-" if one.superiority is None else f"{one.superiority:.2f}",
        one.needed,
        one.reason,
    ]


def ladder(comparison: Comparison) -> Table:
    """Return the word errors of each rung from recordings to free-running speech, and on which of
    them a variant differs from the baseline.
    """
    rows = []
    for variant in comparison.variants:
        runs, row = comparison.finished(variant.name), [variant.name]
        for rung in LADDER:
            values = [run.figures[rung] for run in runs if rung in run.figures]
            analysis = comparison.analyses.get(rung)
            one = analysis.differences.get(variant.name) if analysis else None
            words = f" ({one.verdict})" if one and rung not in comparison.constants else ""
            row.append(f"{100 * fmean(values):.1f} %{words}" if values else "-")
        rows.append(row)
    names = [rung.removeprefix("wer_").replace("_", "-") for rung in LADDER[:-1]]
    return Table(["variant", *names, "free-running"], rows)


def costs(comparison: Comparison) -> Table:
    """Return what each variant costs, how near the identity it starts (means over its runs), and
    how it was brought there.
    """
    rows = []
    for variant in comparison.variants:
        known = [(variant.cost.get(name), digits) for name, (_, digits) in COSTS.items()]
        cells = ["-" if value is None else f"{value:,.{digits}f}" for value, digits in known]
        if variant.parameters_percent is not None:
            cells[0] += f" ({variant.parameters_percent:+.1f} %)"
        start = next((run.start for run in comparison.finished(variant.name) if run.start), "-")
        rows.append([variant.name, *cells, start])
    return Table(["variant", *(title for title, _ in COSTS.values()), "start"], rows)
