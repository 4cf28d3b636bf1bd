"""The pictures of a report, each an SVG as bytes.

Figures are matplotlib's own objects, without pyplot and its state; a name that comes from a file
is never read as mathematics.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from io import BytesIO
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tacoskip.ablation.compare import Comparison, wanted
from tacoskip.ablation.events import Curve, mean_curve
from tacoskip.ablation.statistics import BETTER, CANNOT_TELL, WORSE

# Of Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = {BETTER: "#0072B2", WORSE: "#D55E00", CANNOT_TELL: "#6b6b6b"}
BASELINE, BAND = "#8a8a8a", "#e9e9e4"
LEADER: dict[str, Any] = {"arrowstyle": "-", "color": "#cfcfcf", "lw": 0.6, "relpos": (0, 0.5)}
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


# A page holds a hundred pictures. A hundredth of a point is finer than any screen; indentation,
# metadata and the turn by nothing of every text are for nobody.
_NEEDLESS = (
    (rb"(\d\.\d\d)\d+", rb"\1"),
    (rb"(?s)^.*?(?=<svg)| *<metadata>.*?</metadata>", b""),
    (rb' transform="rotate\(-?0 [^)]*\)"', b""),
    (rb">\s+<", b"><"),
    (rb"\s*\n\s*", b" "),
)


def _smaller(data: bytes) -> bytes:
    for pattern, replacement in _NEEDLESS:
        data = re.sub(pattern, replacement, data)
    return data


def svg(draw: Callable[P, Figure]) -> Callable[P, bytes]:
    """Make a function that draws a Figure return it as SVG."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        buffer = BytesIO()
        with matplotlib.rc_context(STYLE):
            draw(*args, **kwargs).savefig(
                buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
            )
        return _smaller(buffer.getvalue())

    return drawn


@svg
def forest(comparison: Comparison, figure: str) -> Figure:
    """Draw each variant's difference to its reference, its interval, and the noise floor's band."""
    found = comparison.analyses[figure].differences
    rows = [
        (variant.name, found[variant.name], found[variant.name].mean)
        for variant in reversed(comparison.variants)
        if variant.name in found
    ]
    drawing, axes = _axes(6.3 + _room(name for name, _, _ in rows), 1.1 + 0.24 * len(rows))
    floors = [one.noise_floor or 0.0 for _, one, _ in rows]
    means = [mean for _, _, mean in rows if mean is not None]
    ends = [abs(end) for _, one, _ in rows for end in (one.low, one.high) if end is not None]
    reach = max(*np.abs(usual_range(means)), *floors, 1e-9)
    limit = 1.05 * max(reach, min(2.5 * reach, max(ends, default=0.0)))
    for y, (_, one, mean) in enumerate(rows):
        colour = COLOURS[one.verdict]
        axes.barh(y, 2 * (one.noise_floor or 0.0), 1.0, -(one.noise_floor or 0.0), color=BAND)
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [y, y], color=colour, linewidth=1.6)
        if mean is not None:
            face = "white" if one.verdict == CANNOT_TELL else colour
            marker = "o" if abs(mean) <= limit else ">" if mean > 0 else "<"
            axes.plot(
                np.clip(mean, -limit, limit), y, marker, color=colour, mfc=face, clip_on=False
            )
        words = f"{comparison.text(figure, mean, '+')}  {one.verdict}"
        axes.text(1.02, y, words, color=colour, va="center", transform=axes.get_yaxis_transform())
    axes.axvline(0, color="#333333", linewidth=0.8)
    axes.set(xlim=(-limit, limit), ylim=(-0.6, len(rows) - 0.4))
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{figure}: difference to {comparison.baseline} ({wanted(figure)})")
    return drawing


@svg
def scatter(comparison: Comparison, figure: str, cost: str, label: str) -> Figure:
    """Draw a figure against a cost. Names stand in a column, so that they never overlap."""
    summaries = comparison.analyses[figure].summaries
    found = comparison.analyses[figure].differences
    points = [
        (variant.name, variant.cost[cost], summaries[variant.name].mean or 0.0)
        for variant in comparison.variants
        if cost in variant.cost and variant.name in summaries
    ]
    points.sort(key=lambda point: point[2])
    width = 4.1 + _room(name for name, _, _ in points)
    drawing, axes = _axes(width, max(3.0, 0.7 + 0.165 * len(points)))
    low, high = usual_range([y for _, _, y in points])
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    bottom, top = low - margin, high + margin
    axes.set_ylim(bottom, top)
    heights = _spread_out([(y - bottom) / (top - bottom) for _, _, y in points])
    for (name, x, y), height in zip(points, heights, strict=True):
        verdict = found[name].verdict if name in found else CANNOT_TELL
        colour = "black" if name == comparison.baseline else COLOURS[verdict]
        inside = float(np.clip(y, bottom, top))
        axes.plot(x, inside, "o" if inside == y else "^" if y > inside else "v", color=colour)
        far = "" if inside == y else f" ({comparison.text(figure, y)})"
        axes.annotate(
            f"{name}{far}",
            (x, inside),
            (1.06, height),
            textcoords="axes fraction",
            color=colour,
            fontsize=8,
            va="center",
            arrowprops=LEADER,
        )
    axes.margins(x=0.08)
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    axes.locator_params(axis="x", nbins=4)
    axes.set(xlabel=label, ylabel=f"{figure} ({wanted(figure)})")
    return drawing


@svg
def curves(
    title: str, panels: Sequence[tuple[str, Curve | None, Curve | None, tuple[float, float]]]
) -> Figure:
    """Draw a variant's curves beside one another, over the baseline's.

    panels: name, own curve, the baseline's, and the limits that all variants share.
    """
    drawing = Figure(figsize=(2.5 * len(panels), 2.0), layout="constrained")
    for axes, (name, own, baseline, limits) in zip(
        drawing.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for curve, colour in ((baseline, BASELINE), (own, COLOURS[BETTER])):
            if curve is not None:
                axes.fill_between(
                    curve.steps, curve.low, curve.high, color=colour, alpha=0.25, linewidth=0
                )
                dot = "o" if len(curve.steps) < 3 else ""
                axes.plot(curve.steps, curve.mean, dot + "-", color=colour, linewidth=1.3, ms=3)
        axes.set(title=name, ylim=limits)
        axes.locator_params(nbins=4)
        axes.tick_params(labelsize=7.5)
    drawing.suptitle(title, fontsize=10, fontweight="bold")
    return drawing


@svg
def gradient_flow(comparison: Comparison) -> Figure:
    """Draw the last gradient norm of every part of the network, by variant, on a log scale."""
    norms = gradient_norms(comparison)
    parts = _merged([list(row) for row in norms.values()])
    image = np.full((len(norms), len(parts)), np.nan)
    for y, row in enumerate(norms.values()):
        for part, value in row.items():
            image[y, parts.index(part)] = value
    width, height = 1.5 + _room(norms) + 0.24 * len(parts), 0.6 + _room(parts) + 0.21 * len(norms)
    drawing, axes = _axes(width, height)
    low, high = (float(np.nanmin(image)), float(np.nanmax(image)))
    shown = axes.imshow(
        image, norm=LogNorm(low, max(high, low * 1.001)), cmap="viridis", aspect="auto"
    )
    axes.set_xticks(range(len(parts)), parts, rotation=90, fontsize=8)
    axes.set_yticks(range(len(norms)), list(norms))
    axes.tick_params(length=0)
    drawing.colorbar(shown, ax=axes, pad=0.01, format="%g", label="gradient norm")
    return drawing


def gradient_norms(comparison: Comparison) -> dict[str, dict[str, float]]:
    """Return the last gradient norms by variant and part: the geometric mean over seeds."""
    norms = {}
    for variant in comparison.variants:
        last = [run.events.last("gradient_norm") for run in comparison.finished(variant.name)]
        row = {}
        for part in _merged([list(one) for one in last]):
            values = [one[part] for one in last if 0 < one.get(part, 0.0) < np.inf]
            if values:
                row[part] = float(np.exp(np.mean(np.log(values))))
        if row:
            norms[variant.name] = row
    return norms


def variant_curves(comparison: Comparison, tag: str) -> dict[str, Curve]:
    """Return the curve of a scalar for every variant that has it."""
    found = {}
    for variant in comparison.variants:
        curve = mean_curve([run.events for run in comparison.finished(variant.name)], tag)
        if curve is not None:
            found[variant.name] = curve
    return found


def shared_limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return limits that fit the curves, but for the highest 3 % of all points."""
    points = np.concatenate([np.concatenate([curve.low, curve.high]) for curve in curves])
    low, high = float(points.min()), float(np.percentile(points, 97))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def usual_range(values: Sequence[float]) -> NDArray[np.float64]:
    """Return least and greatest (2,), but for a few values that lie far from all others.

    A variant that failed to learn must not squeeze the others into a line.
    """
    if not values:
        return np.zeros(2)
    distance = np.abs(np.array(values) - np.median(values))
    near = np.array(values)[distance <= 8 * np.median(distance)]
    kept = near if len(near) >= 0.75 * len(values) else np.array(values)
    return np.array([kept.min(), kept.max()])


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    drawing = Figure(figsize=(width, height), layout="constrained")
    return drawing, drawing.subplots()


def _room(names: Iterable[str]) -> float:
    """Return how many inches the longest name takes."""
    return 0.075 * max((len(name) for name in names), default=0)


def _spread_out(heights: Sequence[float]) -> NDArray[np.float64]:
    """Move rising heights apart within 0..1, so that a line of text fits between any two."""
    gap = min(0.055, 1 / max(len(heights), 1))
    spread = np.clip(heights, 0.0, 1.0)
    for index in range(1, len(spread)):
        spread[index] = max(spread[index], spread[index - 1] + gap)
    ceiling = 1.0
    for index in reversed(range(len(spread))):
        spread[index] = ceiling = min(spread[index], ceiling)
        ceiling -= gap
    return spread


def _merged(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return all names once, each behind the one it follows in its own list."""
    merged: list[str] = []
    for names in lists:
        for index, name in enumerate(names):
            if name not in merged:
                merged.insert(merged.index(names[index - 1]) + 1 if index else 0, name)
    return merged
