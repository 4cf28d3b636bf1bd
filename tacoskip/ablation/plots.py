"""The pictures of a report, each an SVG: differences, quality against cost, curves.

Figures are matplotlib objects, without pyplot and its global state. Names from files are never read
as mathematics.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from io import BytesIO
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tacoskip.ablation.compare import DIRECTIONS, Comparison
from tacoskip.ablation.events import Curve, mean_curve
from tacoskip.ablation.statistics import BETTER, CANNOT_TELL, WORSE

# Of Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = {BETTER: "#0072B2", WORSE: "#D55E00", CANNOT_TELL: "#6b6b6b"}
BASELINE, BAND = "#8a8a8a", "#e9e9e4"
BETTER_IS = {1: "higher is better", -1: "lower is better", 0: "no known direction"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tacoskip",
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.titlesize": 9.5,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "text.parse_math": False,
}

P = ParamSpec("P")


def svg(draw: Callable[P, Figure]) -> Callable[P, bytes]:
    """Make a function that draws a Figure return it as SVG."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        buffer = BytesIO()
        with matplotlib.rc_context(STYLE):
            draw(*args, **kwargs).savefig(
                buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
            )
        return compact(buffer.getvalue().decode()).encode()

    return drawn


def compact(text: str) -> str:
    """Return an SVG without metadata and indentation, coordinates rounded to 1/100 of a point.

    Only numbers inside tags are coordinates: what is written in the picture keeps its digits.
    """
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r"<[^>]*>", lambda tag: _round(tag[0]), text)
    return re.sub(r">\s*\n\s*<", "><", text)


def _round(tag: str) -> str:
    tag = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", tag)
    return re.sub(r' transform="rotate\(-?0 [^)]*\)"|(?<=\s)\s+', "", tag)


@svg
def forest(comparison: Comparison, figure: str) -> Figure:
    """Draw each variant's difference from its reference, its interval, and the noise floor."""
    found = comparison.analyses[figure].differences
    names = [one.name for one in reversed(comparison.variants) if one.name in found]
    rows = [found[name] for name in names]
    drawing = Figure(
        figsize=(6.3 + name_width(names), 1.1 + 0.24 * len(rows)), layout="constrained"
    )
    axes = drawing.subplots()
    floors = [one.noise_floor or 0.0 for one in rows]
    ends = [abs(end) for one in rows for end in (one.low, one.high) if end is not None]
    means = [one.mean for one in rows if one.mean is not None]
    reach = max(*np.abs(usual_range(means)), *floors, 1e-9)
    limit = 1.05 * max(reach, min(2.5 * reach, max(ends, default=0.0)))
    for y, (one, floor) in enumerate(zip(rows, floors, strict=True)):
        colour = COLOURS[one.verdict]
        axes.barh(y, 2 * floor, 1.0, -floor, color=BAND)
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


@svg
def scatter(comparison: Comparison, cost: str) -> Figure:
    """Draw the main figure against a cost; each point has its variant's name beside it."""
    figure = comparison.main
    analysis = comparison.analyses[figure]
    points = [
        (variant.name, variant.cost[cost], analysis.summaries[variant.name].mean or 0.0)
        for variant in comparison.variants
        if cost in variant.cost and variant.name in analysis.summaries
    ]
    drawing = Figure(figsize=(5.5, max(3.0, 0.7 + 0.165 * len(points))), layout="constrained")
    axes = drawing.subplots()
    low, high = padded_range([y for _, _, y in points])
    for name, x, y in points:
        difference = analysis.differences.get(name)
        colour = COLOURS[difference.verdict] if difference else "black"
        inside = float(np.clip(y, low, high))
        label = name if inside == y else f"{name} ({comparison.text(figure, y)})"
        axes.plot(x, inside, "o" if inside == y else "^" if y > inside else "v", color=colour)
        axes.annotate(
            label, (x, inside), (4, 0), textcoords="offset points", color=colour, fontsize=7
        )
    axes.margins(x=0.15)
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    axes.locator_params(axis="x", nbins=4)
    axes.set(
        xlabel=cost.replace("_", " "), ylabel=f"{figure} ({BETTER_IS[DIRECTIONS.get(figure, 0)]})"
    )
    return drawing


def curves(comparison: Comparison) -> dict[str, bytes]:
    """Draw each variant's losses and main figure over the steps, beside the baseline's."""
    found: dict[str, dict[str, Curve]] = {}  # by tag and variant
    for tag in ("train/loss", f"validation/{comparison.main}"):
        for variant in comparison.variants:
            events = [run.events for run in comparison.finished(variant.name)]
            if curve := mean_curve(events, tag):
                found.setdefault(tag, {})[variant.name] = curve
    limits = {
        tag: padded_range([*(y for one in lines.values() for y in (*one.low, *one.high))])
        for tag, lines in found.items()
    }
    names = [one.name for one in comparison.variants if any(one.name in c for c in found.values())]
    return {name: _curves(name, comparison.baseline, found, limits) for name in names}


@svg
def _curves(
    name: str,
    baseline: str,
    found: Mapping[str, Mapping[str, Curve]],
    limits: Mapping[str, tuple[float, float]],
) -> Figure:
    drawing = Figure(figsize=(2.5 * len(found), 2.2), layout="constrained")
    drawing.suptitle(name, fontsize=10, fontweight="bold")
    panels = drawing.subplots(1, len(found), squeeze=False)[0]
    for axes, (tag, lines) in zip(panels, found.items(), strict=True):
        for variant, colour in ((baseline, BASELINE), (name, COLOURS[BETTER])):
            if variant in lines:
                line = lines[variant]
                axes.fill_between(line.steps, line.low, line.high, color=colour, alpha=0.25, lw=0)
                style = "o-" if len(line.steps) < 3 else "-"
                axes.plot(line.steps, line.mean, style, color=colour, linewidth=1.3, ms=3)
        axes.set(title=tag, xlabel="step", ylim=limits[tag])
        axes.locator_params(nbins=4)
        axes.tick_params(labelsize=7.5)
    return drawing


def usual_range(values: Sequence[float]) -> NDArray[np.float64]:
    """Return minimum and maximum (2,) without a few values that lie far from all others.

    A variant that failed to learn must not squeeze the others into a line.
    """
    if not values:
        return np.zeros(2)
    distance = np.abs(np.array(values) - np.median(values))
    near = np.array(values)[distance <= 8 * np.median(distance)]
    kept = near if len(near) >= 0.75 * len(values) else np.array(values)
    return np.array([kept.min(), kept.max()])


def padded_range(values: Sequence[float]) -> tuple[float, float]:
    """Return the usual range with a margin, for the limits of an axis."""
    low, high = (float(end) for end in usual_range(values))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def name_width(names: Iterable[str]) -> float:
    """Return the width of the longest name in inches."""
    return 0.075 * max((len(name) for name in names), default=0)
