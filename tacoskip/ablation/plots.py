"""The picture of a report: differences with their intervals.

Figures are matplotlib objects, without pyplot and its global state. Names from files are never read
as mathematics.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tacoskip.ablation.compare import DIRECTIONS, Comparison
from tacoskip.ablation.statistics import BETTER, CANNOT_TELL, SAME, UNSTABLE, WORSE

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
    "axes.edgecolor": "#999999",
    "axes.titlesize": 9.5,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "text.parse_math": False,
}


def forest(comparison: Comparison, figure: str) -> bytes:
    """Draw each variant's difference from its reference, its interval and the margin, as an SVG."""
    buffer = BytesIO()
    with matplotlib.rc_context(STYLE):
        drawing = _forest(comparison, figure)
        no = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(buffer, format="svg", transparent=True, metadata=no)
    return buffer.getvalue()


def _forest(comparison: Comparison, figure: str) -> Figure:
    analysis = comparison.analyses[figure]
    names = [one.name for one in reversed(comparison.variants) if one.name in analysis.differences]
    rows = [analysis.differences[name] for name in names]
    width = 6.3 + 0.075 * max(map(len, names))
    drawing = Figure(figsize=(width, 1.1 + 0.24 * len(rows)), layout="constrained")
    axes = drawing.subplots()
    axes.axvspan(-analysis.margin, analysis.margin, color=BAND)
    ends = [abs(end) for one in rows for end in (one.low, one.high) if end is not None]
    means = [one.mean for one in rows if one.mean is not None]
    reach = max(*np.abs(usual_range(means)), analysis.margin, 1e-9)
    limit = 1.05 * max(reach, min(2.5 * reach, max(ends, default=0.0)))
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
