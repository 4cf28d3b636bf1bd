"""A comparison as cells of text, and as a table for a terminal."""

from typing import TYPE_CHECKING

from tacoskip.ablation.compare import Comparison, Variant
from tacoskip.ablation.statistics import CANNOT_TELL, Summary

if TYPE_CHECKING:
    from rich.table import Table

COSTS = {
    "parameters": "parameters",
    "macs_per_frame": "MACs/frame",
    "latency_ms": "ms",
    "peak_memory_mb": "MB",
}


def half_width(summary: Summary) -> float | None:
    """Return half of a mean's interval."""
    return None if summary.low is None or summary.mean is None else summary.mean - summary.low


def table(comparison: Comparison) -> "Table":
    """Return the comparison for a terminal, as a rich Table."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    main, others = comparison.main, comparison.figures[1:]
    grid = Table(box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    grid.title = escape(f"{comparison.folder}: {comparison.recipe}, baseline {comparison.baseline}")
    grid.caption = escape(_caption(comparison))
    grid.add_column("variant", overflow="fold", min_width=12)
    for name in ("seeds", main, "95 %", "difference", "95 %"):
        grid.add_column(escape(name), justify="right", no_wrap=True)
    grid.add_column("verdict", no_wrap=True)
    for name in (*others, *COSTS.values()):
        grid.add_column(escape(name), justify="right")
    for variant in comparison.variants:
        row = [variant.name, seeds_cell(variant), *_main_cells(comparison, variant.name)]
        row += [_short(comparison, figure, variant.name) for figure in others]
        grid.add_row(*(escape(cell) for cell in row + cost_cells(variant)))
    return grid


def seeds_cell(variant: Variant) -> str:
    """Return how many seeds finished, and of how many where some did not."""
    finished = len(variant.seeds)
    return str(finished) if finished == variant.planned else f"{finished} of {variant.planned}"


def cost_cells(variant: Variant) -> list[str]:
    """Return the costs of a variant as text, in the order of COSTS."""
    cells = []
    for name in COSTS:
        value = variant.cost.get(name)
        digits = ".0f" if value is None or name in ("parameters", "macs_per_frame") else ".1f"
        cells.append("-" if value is None else f"{value:,{digits}}")
    if variant.parameters_percent is not None:
        cells[0] += f" ({variant.parameters_percent:+.1f} %)"
    return cells


def _main_cells(comparison: Comparison, name: str) -> list[str]:
    """Return mean, half-interval, difference, its interval and verdict in the main figure."""
    if not comparison.main:
        return ["-"] * 5
    figure, analysis = comparison.main, comparison.analyses[comparison.main]
    summary = analysis.summaries.get(name, Summary(0))
    half = comparison.text(figure, half_width(summary))
    cells = [comparison.text(figure, summary.mean), "-" if half == "-" else f"±{half}"]
    found = analysis.differences.get(name)
    if not found:
        return [*cells, "", "", "baseline" if name == comparison.baseline else ""]
    low, high = (comparison.text(figure, end, "+") for end in (found.low, found.high))
    interval = "-" if found.low is None else f"{low} to {high}"
    return [*cells, comparison.text(figure, found.mean, "+"), interval, found.verdict]


def _short(comparison: Comparison, figure: str, name: str) -> str:
    """Return a mean with its verdict; one that cannot tell says nothing."""
    analysis = comparison.analyses[figure]
    found = analysis.differences.get(name)
    verdict = "" if found is None or found.verdict == CANNOT_TELL else f" {found.verdict}"
    return comparison.text(figure, analysis.summaries.get(name, Summary(0)).mean) + verdict


def _caption(comparison: Comparison) -> str:
    floors = {figure: comparison.noise_floor(figure) for figure in comparison.figures}
    known = [f"{name} ±{comparison.text(name, one)}" for name, one in floors.items() if one]
    floor = ", ".join(known) or "unknown, it takes two seeds"
    lines = [
        f"noise floor ({comparison.most_seeds} seed{'s' * (comparison.most_seeds != 1)}): {floor}",
        "no word beside a figure: cannot tell",
        *(f"does not count: {line}" for line in comparison.left_out),
    ]
    return "\n".join(lines)
