"""What the probes of runs found by depth: gradient flow, lesions, path lengths (RUN/probes.json).

A place is a stack of units (`encoder`, `postnet`); U units of a place, counted from its input.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from tacoskip.ablation.compare import Comparison
from tacoskip.ablation.plots import BASELINE, COLOURS, svg, usual_range
from tacoskip.ablation.statistics import BETTER, WORSE

Values = NDArray[np.float64]
# By place and measure, a value for each unit (U,); NaN where a unit has none.
Depths = dict[str, dict[str, Values]]

# The lines of a flow: colour, style, width. Where there is no skip, the second covers the first.
FLOW: dict[str, tuple[str, str, float]] = {
    "gradient": ("black", "-", 2.6),
    "gradient_transform": (COLOURS[BETTER], "-", 1.2),
    "gradient_skip": (COLOURS[WORSE], "--", 1.2),
}


def by_depth(comparison: Comparison, measures: Sequence[str]) -> dict[str, Depths]:
    """Return the last values of some measures by variant: means over seeds.

    Of gradients the geometric mean. What a variant does not have is left out.
    """
    found: dict[str, Depths] = {}
    for variant in comparison.variants:
        runs = [read_probes(run.folder) for run in comparison.finished(variant.name)]
        mine: Depths = {}
        for place in dict.fromkeys(place for run in runs for place in run):
            for name in measures:
                rows = [run[place][name] for run in runs if name in run.get(place, {})]
                rows = [row for row in rows if row.shape == rows[0].shape]
                values = _mean(np.array(rows), name.startswith("gradient")) if rows else None
                if values is not None and np.isfinite(values).any():
                    mine.setdefault(place, {})[name] = values
        if mine:
            found[variant.name] = mine
    return found


def read_probes(run: Path) -> Depths:
    """Read the lists of numbers in a run's probes.json; without a readable one there are none."""
    try:
        places = json.loads((run / "probes.json").read_text(encoding="utf-8"))["places"]
        return {
            str(place): {
                str(name): np.array([_number(value) for value in values])
                for name, values in measures.items()
                if isinstance(values, list) and not any(isinstance(v, list) for v in values)
            }
            for place, measures in places.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def paths_of(comparison: Comparison) -> dict[str, dict[str, float]]:
    """Return the mean path length by variant and place, in transforms, of all that measured it."""
    found: dict[str, dict[str, float]] = {}
    for variant, places in by_depth(comparison, ["path_length"]).items():
        found[variant] = {place: float(one["path_length"][0]) for place, one in places.items()}
    return found


@svg
def flow(title: str, places: Depths, limits: Values) -> Figure:
    """Draw a variant's gradient over the units of each place, input to the left."""
    drawing, panels = _panels(title, places, limits, height=2.2)
    for axes, measures in zip(panels, places.values(), strict=True):
        for name, (colour, line, width) in FLOW.items():
            values = measures.get(name)
            # Without a skip, nothing goes along it; what is all zero is no line.
            if values is not None and (values > 0).any():
                shown = np.where(values > 0, values, np.nan)
                axes.plot(shown, line, marker=".", color=colour, linewidth=width, ms=4)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")  # the usual one writes mathematics
        axes.yaxis.set_minor_formatter(NullFormatter())
    return drawing


@svg
def lesions(title: str, places: Depths, limits: Values) -> Figure:
    """Draw by how much the loss rises without each unit of each place; far bars are cut off."""
    drawing, panels = _panels(title, places, limits, height=2.0)
    for axes, measures in zip(panels, places.values(), strict=True):
        values = measures["lesion"]
        axes.bar(range(len(values)), np.nan_to_num(values), color=BASELINE)
        axes.axhline(0, color="#333333", linewidth=0.8)
    return drawing


def limits(found: Mapping[str, Depths], measure: str) -> Values:
    """Return limits (2,) of a measure that all panels share.

    Gradients: for a log scale, and with room below for their parts. Others: but for values that lie
    far from all others.
    """
    rows = [p[measure] for one in found.values() for p in one.values() if measure in p]
    every = np.concatenate([np.array([]), *rows])
    log = measure.startswith("gradient")
    every = every[np.isfinite(every) & (every > 0 if log else True)]
    if not every.size:
        return np.array([0.1, 1.0])
    if log:
        return np.array([every.min() / 10, every.max() * 2])
    low, high = usual_range(every.tolist())
    margin = 0.08 * (high - low) or 0.08 * abs(high) or 1.0
    return np.array([min(low, 0.0) - margin, high + margin])


def _panels(title: str, places: Depths, limits: Values, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each place, over the units of that place."""
    drawing = Figure(figsize=(2.5 * len(places), height), layout="constrained")
    drawing.suptitle(title, fontsize=10, fontweight="bold")
    panels = list(drawing.subplots(1, len(places), squeeze=False)[0])
    for axes, place in zip(panels, places, strict=True):
        axes.set(title=place, ylim=tuple(limits), xlabel="unit")
        axes.locator_params(axis="x", integer=True, nbins=5)
        axes.tick_params(labelsize=7.5)
    return drawing, panels


def _mean(rows: Values, geometric: bool) -> Values:
    """Mean over runs of what is known there: (runs, U) -> (U,)."""
    known = np.isfinite(rows)
    if geometric:
        known &= rows >= 0
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(known, np.log(np.where(known, rows, 1.0)), 0.0)
            return np.where(known.any(0), np.exp(logs.sum(0) / known.sum(0)), np.nan)
    with np.errstate(invalid="ignore"):
        return np.where(known, rows, 0.0).sum(0) / known.sum(0)


def _number(value: Any) -> float:
    known = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if known else math.nan
