"""What the probes of runs found in their stacks, unit by unit (RUN/probes.json).

U: the units of a stack, counted from its input.
"""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from tacoskip.ablation.compare import Comparison
from tacoskip.ablation.plots import name_width, svg, usual_range

Values = NDArray[np.float64]
# By stack and measure, a value per unit (U,); NaN where a unit has none.
Stacks = dict[str, dict[str, Values]]

# Measures that the report shows: title, and whether the mean and the colours are logarithmic.
MEASURES = {
    "gradient": ("gradient norm at the unit's input", True),
    "gradient_skip": ("gradient norm along the skip", True),
    "lesion": ("rise of the validation loss without the unit", False),
}


def stack_maps(comparison: Comparison) -> dict[str, bytes]:
    """Draw each measure that the runs have, over variants and units."""
    found = by_variant(comparison)
    measured = {name for stacks in found.values() for one in stacks.values() for name in one}
    return {title: _map(found, name) for name, (title, _) in MEASURES.items() if name in measured}


def by_variant(comparison: Comparison) -> dict[str, Stacks]:
    """Return the last values of MEASURES by variant: means over seeds, of gradients geometric."""
    found: dict[str, Stacks] = {}
    for variant in comparison.variants:
        runs = [read_probes(run.folder) for run in comparison.finished(variant.name)]
        for stack in dict.fromkeys(stack for run in runs for stack in run):
            for name, (_, log) in MEASURES.items():
                rows = [run[stack][name] for run in runs if name in run.get(stack, {})]
                rows = [row for row in rows if row.shape == rows[0].shape]
                values = _mean(np.array(rows), log) if rows else np.zeros(0)
                if np.isfinite(values).any():
                    found.setdefault(variant.name, {}).setdefault(stack, {})[name] = values
    return found


def read_probes(run: Path) -> Stacks:
    """Read the lists of numbers in a run's probes.json; none where it cannot be read."""
    try:
        stacks = json.loads((run / "probes.json").read_text(encoding="utf-8"))["stacks"]
        return {
            str(stack): {
                str(name): np.array([_number(value) for value in values])
                for name, values in measures.items()
                if name in MEASURES and isinstance(values, list)
            }
            for stack, measures in stacks.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


@svg
def _map(found: dict[str, Stacks], measure: str) -> Figure:
    """Draw a measure: variants downwards, the units of each stack to the right."""
    names = [name for name, stacks in found.items() if any(measure in s for s in stacks.values())]
    stacks = list(dict.fromkeys(s for name in names for s in found[name]))
    images = []
    for stack in stacks:
        rows = [found[name].get(stack, {}).get(measure, np.zeros(0)) for name in names]
        image = np.full((len(names), max(1, *map(len, rows))), np.nan)
        for row, values in zip(image, rows, strict=True):
            row[: len(values)] = values
        images.append(image)
    units = sum(image.shape[1] for image in images)
    size = 2.0 + name_width(names) + 0.3 * units, 1.0 + 0.21 * len(names)
    drawing = Figure(figsize=size, layout="constrained")
    widths = [image.shape[1] for image in images]
    panels = drawing.subplots(1, len(stacks), squeeze=False, sharey=True, width_ratios=widths)[0]
    norm = _norm(np.concatenate([image.ravel() for image in images]), MEASURES[measure][1])
    for axes, stack, image in zip(panels, stacks, images, strict=True):
        drawn = axes.imshow(image, norm=norm, cmap="viridis", aspect="auto")
        axes.set(title=stack, xlabel="unit")
        axes.set_xticks(range(0, image.shape[1], 1 + image.shape[1] // 9))
        axes.tick_params(length=0)
    panels[0].set_yticks(range(len(names)), names)
    bar = drawing.colorbar(drawn, ax=list(panels), pad=0.01, format="%g", label=measure)
    bar.ax.yaxis.set_minor_formatter(NullFormatter())  # the default writes mathematics
    return drawing


def _norm(values: Values, log: bool) -> Normalize:
    """Return the colours' scale, without values that lie far from all others."""
    if log:
        values = values[values > 0]
        low, high = (values.min(), values.max()) if values.size else (0.1, 1.0)
        return LogNorm(low, max(high, low * 1.001))
    low, high = usual_range(values[np.isfinite(values)].tolist())
    return Normalize(low, max(high, low + 1e-9))


def _mean(rows: Values, geometric: bool) -> Values:
    """Return the mean over runs of the known values: (runs, U) -> (U,)."""
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # units without any value
        if geometric:
            rows = np.log(np.where(rows >= 0, rows, np.nan))
        mean = np.asarray(np.nanmean(rows, axis=0))
        return np.exp(mean) if geometric else mean


def _number(value: Any) -> float:
    known = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if known else math.nan
