"""The tables of a report, as HTML. Every text that comes from a file goes through `escape`."""

from collections.abc import Iterable
from html import escape

from tacoskip.ablation.compare import DIRECTIONS, Comparison
from tacoskip.ablation.statistics import AA, CANNOT_TELL, Summary
from tacoskip.ablation.table import COSTS, cost_cells, half_width, seeds_cell

ARROWS = {1: "↑", -1: "↓", 0: ""}

Row = tuple[str, list[str]]  # class of the row, cells of safe HTML


def verdicts(comparison: Comparison) -> str:
    """Return the verdicts on all figures in one table, then each figure in full."""
    columns = ["variant", "seeds"]
    for figure in comparison.figures:
        columns += [f"{figure} {ARROWS[DIRECTIONS.get(figure, 0)]}", "verdict"]
    rows: list[Row] = []
    for variant in comparison.variants:
        cells = [escape(variant.name), seeds_cell(variant)]
        for figure in comparison.figures:
            cells += [_mean(comparison, figure, variant.name)]
            cells += [_verdict(comparison, figure, variant.name)]
        rows.append((_kind(comparison, variant.name), cells))
    checks = [
        f"{name}, the same block as {one.reference} with other seeds: "
        + ", ".join(
            f"{figure} {comparison.analyses[figure].differences[name].verdict}"
            for figure in comparison.figures
            if name in comparison.analyses[figure].differences
        )
        for name, one in comparison.analyses[comparison.main].differences.items()
        if name.endswith(AA)
    ]
    check = "".join(f"<p>A/A check: {escape(line)}.</p>" for line in checks)
    details = "".join(_details(comparison, figure) for figure in comparison.figures)
    return (
        "<h2>Verdicts</h2>\n<p>Means over seeds, in the main figure with their 95 % intervals, the "
        f"best first; verdicts against {escape(comparison.baseline)}. ↓ lower is better, ↑ higher "
        "is better.</p>"
        f"{_table(columns, rows)}{check}\n{details}"
    )


def _details(comparison: Comparison, figure: str) -> str:
    analysis = comparison.analyses[figure]
    columns = ["variant", "n", "mean", "sd", "95 % interval", "difference", "95 % interval"]
    columns += ["noise floor", "p", "p (Holm)", "p (paired alone)", "verdict", "why"]
    rows: list[Row] = []
    for variant in comparison.variants:
        one = analysis.summaries.get(variant.name)
        if one is None:
            continue
        cells = [escape(variant.name), str(one.n), comparison.text(figure, one.mean)]
        cells += [comparison.text(figure, one.sd), _interval(comparison, figure, one)]
        found = analysis.differences.get(variant.name)
        if found:
            cells += [comparison.text(figure, found.mean, "+")]
            cells += [_interval(comparison, figure, found, "+")]
            cells += [comparison.text(figure, found.noise_floor)]
            cells += [_p(p) for p in (found.p, found.p_holm, found.p_paired)]
            cells += [_verdict(comparison, figure, variant.name), escape(found.reason)]
        else:
            cells += [""] * 6 + [_verdict(comparison, figure, variant.name), ""]
        rows.append((_kind(comparison, variant.name), cells))
    return f"<details><summary>{escape(figure)} in full</summary>{_table(columns, rows)}</details>"


def costs(comparison: Comparison) -> str:
    """Return the main figure beside what each variant costs."""
    main = comparison.main
    rows: list[Row] = []
    for variant in comparison.variants:
        cells = [escape(variant.name), _mean(comparison, main, variant.name), *cost_cells(variant)]
        rows.append((_kind(comparison, variant.name), cells))
    return _table(["variant", main, *COSTS.values()], rows)


def unfinished(comparison: Comparison) -> str:
    """Return the runs that failed or have not ended, with the reasons; "" for none."""
    if not comparison.unfinished:
        return ""
    rows: list[Row] = [
        ("", [escape(run.name), escape(run.variant), run.state, escape(run.error)])
        for run in comparison.unfinished
    ]
    return "<h2>Runs that do not count</h2>\n" + _table(["run", "variant", "state", "why"], rows)


def _table(columns: Iterable[str], rows: Iterable[Row]) -> str:
    """Return a table; of text alone are the first column, verdicts and reasons."""
    names = list(columns)
    kinds = {"verdict": "text", "state": "text", "why": "text wrap"}
    classes = [kinds.get(name, "") for name in names]
    head = "".join(
        f'<th class="{kind}">{escape(name)}</th>' for name, kind in zip(names, classes, strict=True)
    )
    body = "".join(
        f'<tr class="{row}">'
        + "".join(
            f'<td class="{kind}">{cell}</td>' for cell, kind in zip(cells, classes, strict=True)
        )
        + "</tr>\n"
        for row, cells in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _kind(comparison: Comparison, name: str) -> str:
    return "baseline" if name == comparison.baseline else ""


def _mean(comparison: Comparison, figure: str, name: str) -> str:
    one = comparison.analyses[figure].summaries.get(name, Summary(0))
    half = half_width(one) if figure == comparison.main else None
    interval = "" if half is None else f" ± {comparison.text(figure, half)}"
    return f"{comparison.text(figure, one.mean)}{interval}"


def _interval(comparison: Comparison, figure: str, one: Summary, sign: str = "") -> str:
    if one.low is None:
        return "-"
    low, high = (comparison.text(figure, end, sign) for end in (one.low, one.high))
    return f"{low} to {high}"


def _verdict(comparison: Comparison, figure: str, name: str) -> str:
    found = comparison.analyses[figure].differences.get(name)
    if found is None:
        return "baseline" if name == comparison.baseline else "-"
    if found.verdict == CANNOT_TELL:
        return f'<span class="unsure" title="{escape(found.reason)}">{CANNOT_TELL}</span>'
    return f'<span class="{found.verdict}">{found.verdict}</span>'


def _p(p: float | None) -> str:
    return "-" if p is None else "&lt; 0.001" if p < 0.001 else f"{p:.3f}"
