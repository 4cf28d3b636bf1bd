"""The comparison as one self-contained HTML file, from the template report.html.

Figures are matplotlib objects, without pyplot and its global state. Names from files are never read
as mathematics.
"""

from base64 import b64encode
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tacoskip.ablation import tables
from tacoskip.ablation.compare import DIRECTIONS, Comparison
from tacoskip.ablation.plan import DONE, LADDER
from tacoskip.ablation.statistics import BETTER, CANNOT_TELL, SAME, UNSTABLE, WORSE
from tacoskip.files import write_whole

# Of Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = {
    **{BETTER: "#0072B2", WORSE: "#D55E00", SAME: "#007A5E", CANNOT_TELL: "#6b6b6b"},
    UNSTABLE: "#9A4F80",
}
BAND = "#e9e9e4"
BETTER_IS = {1: "higher is better", -1: "lower is better", 0: "no known direction"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tacoskip",
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}


def write_report(comparison: Comparison, path: Path) -> Path:
    """Write the report and return its path; beside it, forest.svg and forest.png show the main
    figure. Raises OSError when a file cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = files("tacoskip.ablation").joinpath("report.html").read_text(encoding="utf-8")
    name = comparison.recipe or comparison.folder.name
    text = environment.from_string(template).render(
        title=f"{name}: skip connections compared",
        comparison=comparison,
        facts=_facts(comparison),
        text_columns=tables.TEXT,
        verdicts={name: tables.figure_table(comparison, name) for name in comparison.figures},
        costs=tables.costs(comparison),
        ladder=tables.ladder(comparison) if LADDER[-1] in comparison.figures else None,
        unfinished=tables.Table(
            ["run", "variant", "state", "why"],
            [[run.name, run.variant, run.state, run.error] for run in comparison.unfinished],
        ),
        forests={
            name: f"data:image/svg+xml;base64,{b64encode(forest(comparison, name)).decode()}"
            for name, one in comparison.analyses.items()
            if one.differences
        },
    )
    write_whole(path, text)
    if comparison.main and comparison.analyses[comparison.main].differences:
        for form in ("svg", "png"):
            picture = forest(comparison, comparison.main, form)
            write_whole(path.with_name(f"forest.{form}"), picture)
    return path


def _facts(comparison: Comparison) -> dict[str, str]:
    done = [run for run in comparison.runs if run.state == DONE]
    steps = [f"{run.steps:.0f}" for run in done if run.steps is not None]
    facts = {
        "folder": str(comparison.folder),
        "recipe": comparison.recipe or "-",
        "overrides": " ".join(comparison.overrides) or "none",
        "baseline": comparison.baseline,
        "runs": f"{len(done)} of {len(comparison.runs)}; {len(comparison.variants)} variants",
        "steps": ", ".join(dict.fromkeys(steps)) or "-",
        "compared on": comparison.date,
    }
    if comparison.check:
        facts["check of the stack"] = comparison.check
    if comparison.constants:
        same = (f"{name} {value:.3g}" for name, value in comparison.constants.items())
        facts["equal in all runs"] = ", ".join(same)
    return facts


def forest(comparison: Comparison, figure: str, form: str = "svg") -> bytes:
    """Draw each variant's difference from its reference, its interval and the margin.

    form: svg, transparent, or png, on white.
    """
    buffer = BytesIO()
    options: dict[str, Any] = {"dpi": 150, "facecolor": "white"}
    if form == "svg":
        no = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        options = {"transparent": True, "metadata": no}
    with matplotlib.rc_context(STYLE):
        _forest(comparison, figure).savefig(buffer, format=form, **options)
    return buffer.getvalue()


def _forest(comparison: Comparison, figure: str) -> Figure:
    analysis = comparison.analyses[figure]
    names = [one.name for one in reversed(comparison.variants) if one.name in analysis.differences]
    rows = [analysis.differences[name] for name in names]
    width = 6.3 + 0.075 * max(map(len, names))
    drawing = Figure(figsize=(width, 1.1 + 0.24 * len(rows)), layout="constrained")
    axes = drawing.subplots()
    axes.axvspan(-analysis.margin, analysis.margin, color=BAND)
    # One variant that failed to learn must not squeeze the others into a line.
    ends = [abs(end) for one in rows for end in (one.low, one.high, one.mean) if end is not None]
    limit = 1.05 * max(min(max(ends), 4 * np.median(ends)), analysis.margin, 1e-9) if ends else 1.0
    for y, one in enumerate(rows):
        colour = COLOURS[one.verdict]
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [y, y], color=colour, linewidth=1.6)
        if one.mean is not None:
            face = "white" if one.verdict == CANNOT_TELL else colour
            marker = "o" if abs(one.mean) <= limit else ">" if one.mean > 0 else "<"
            x = np.clip(one.mean, -limit, limit)
            axes.plot(x, y, marker, color=colour, mfc=face, clip_on=False)
        words = f"{comparison.text(figure, one.mean, '+')}  {one.verdict}"
        axes.text(1.02, y, words, color=colour, va="center", transform=axes.get_yaxis_transform())
    axes.axvline(0, color="#333333", linewidth=0.8)
    axes.set(xlim=(-limit, limit), ylim=(-0.6, len(rows) - 0.4))
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        f"{figure}: difference from {comparison.baseline} ({BETTER_IS[DIRECTIONS.get(figure, 0)]})"
    )
    return drawing
