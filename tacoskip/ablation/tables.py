"""The tables of a comparison, for the terminal and the report alike."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tacoskip.ablation.compare import DIRECTIONS, Comparison
from tacoskip.ablation.statistics import Summary

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderResult

ARROWS = {1: " ↑", -1: " ↓", 0: ""}
COSTS = {
    **{"parameters": "parameters", "macs_per_frame": "MACs/frame"},
    **{"latency_ms": "ms", "peak_memory_mb": "MB"},
}
# Columns of text; all others hold numbers.
TEXT = ("variant", "run", "verdict", "state", "why")


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
        from rich.text import Text

        width = options.max_width
        names = [
            row[0] if len(row[0]) <= width // 3 else row[0].replace(",", ",\n") for row in self.rows
        ]
        for indices in self._parts(names, width):
            grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False)
            for index in indices:
                column = self.columns[index]
                justify: Literal["left", "right"] = "left" if column in TEXT else "right"
                grid.add_column(Text(column), justify=justify, overflow="fold", no_wrap=index > 0)
            for name, row in zip(names, self.rows, strict=True):
                grid.add_row(Text(name), *(Text(row[index]) for index in indices[1:]))
            yield grid
            yield ""

    def without(self, column: str) -> "Table":
        """Return the table without a column."""
        kept = [index for index, name in enumerate(self.columns) if name != column]
        rows = [[row[index] for index in kept] for row in self.rows]
        return Table([self.columns[index] for index in kept], rows)

    def _parts(self, names: list[str], width: int) -> list[list[int]]:
        """Return the columns of tables that each fit into `width` characters."""
        rows = [[name, *row[1:]] for name, row in zip(names, self.rows, strict=True)]
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


def overview(comparison: Comparison) -> "Group":
    """Return the tables for a terminal: the verdicts in each figure, then the costs."""
    from rich.console import Group
    from rich.text import Text

    title = f"{comparison.folder}: {comparison.recipe}, baseline {comparison.baseline}"
    figures = [figure_table(comparison, figure).without("why") for figure in comparison.figures]
    return Group(Text(title), *figures, costs(comparison), Text(noise_line(comparison)))


def figure_table(comparison: Comparison, figure: str) -> Table:
    """Return the verdicts in one figure: mean, difference, their 95 % intervals, and p."""
    mean_column = f"{figure}{ARROWS[DIRECTIONS.get(figure, 0)]}"
    rows = []
    for variant in comparison.variants:
        done, planned = len(variant.seeds), variant.planned
        row = [variant.name, str(done) if done == planned else f"{done} of {planned}"]
        summary = comparison.analyses[figure].summaries.get(variant.name, Summary(0))
        difference = comparison.analyses[figure].differences.get(variant.name)
        row.append(comparison.text(figure, summary.mean))
        if summary.low is not None and summary.mean is not None:
            row[-1] += f" ± {comparison.text(figure, summary.mean - summary.low)}"
        if difference:
            low, high = (comparison.text(figure, x, "+") for x in (difference.low, difference.high))
            interval = "-" if difference.low is None else f"{low} to {high}"
            row += [comparison.text(figure, difference.mean, "+"), difference.verdict]
            row += [interval, _p(difference.p_holm), difference.reason]
        else:
            row += ["", "baseline" if variant.name == comparison.baseline else "-", "", "", ""]
        rows.append(row)
    columns = ["variant", "seeds", mean_column, "difference", "verdict", "95 %", "p (Holm)", "why"]
    return Table(columns, rows)


def costs(comparison: Comparison) -> Table:
    """Return what each variant costs: means over its runs."""
    rows = []
    for variant in comparison.variants:
        row = [variant.name]
        for name in COSTS:
            value = variant.cost.get(name)
            digits = 0 if name in ("parameters", "macs_per_frame") else 1
            row.append("-" if value is None else f"{value:,.{digits}f}")
        if variant.parameters_percent is not None:
            row[1] += f" ({variant.parameters_percent:+.1f} %)"
        rows.append(row)
    return Table(["variant", *COSTS.values()], rows)


def unfinished(comparison: Comparison) -> Table:
    """Return the runs that failed or have not ended, with the reasons."""
    rows = [[run.name, run.variant, run.state, run.error] for run in comparison.unfinished]
    return Table(["run", "variant", "state", "why"], rows)


def noise_line(comparison: Comparison) -> str:
    """Say the noise floor of each figure in one line."""
    floors = {figure: comparison.noise_floor(figure) for figure in comparison.figures}
    known = [f"{name} ±{comparison.text(name, one)}" for name, one in floors.items() if one]
    seeds = f"{comparison.most_seeds} seed{'s' * (comparison.most_seeds != 1)}"
    return f"noise floor ({seeds}): {', '.join(known) or 'unknown, it needs two seeds'}"


def _p(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
