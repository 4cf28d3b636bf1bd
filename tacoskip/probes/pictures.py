"""Pictures of what the probes found: by depth, of reuse, of attention, of lesions.

Figures are matplotlib's own objects, without pyplot and its state.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from tacoskip.probes.stacks import ByUnit

# Panels of a picture by depth: title, whether logarithmic, and the measures in it.
PANELS = (
    (
        "gradient norm",
        True,
        (
            *("gradient", "gradient_transform", "gradient_skip", "gradient_weights"),
            *("long_skip", "long_below"),
        ),
    ),
    ("activation, root mean square", False, ("norm",)),
    ("gates", False, ("openness", "alpha", "alpha_min", "alpha_max")),
)


def by_depth(place: str, found: ByUnit) -> Figure:
    """Draw all measures of a stack over its units, input to the left."""
    panels = [(title, log, [n for n in names if n in found]) for title, log, names in PANELS]
    panels = [panel for panel in panels if panel[2]]
    figure, axes = _panels(len(panels))
    for one, (title, log, names) in zip(axes, panels, strict=True):
        for name in names:
            values = np.array([np.nan if v is None else v for v in found[name]])
            values = np.where(values > 0, values, np.nan) if log else values
            if np.isfinite(values).any():
                one.plot(values, ".-", label=name.replace("_", " "), linewidth=1, markersize=4)
        if one.lines:
            one.set_yscale("log" if log else "linear")
            one.legend(fontsize=7)
        one.set(title=title, xlabel=f"unit of {place}")
        one.locator_params(axis="x", integer=True)
    return figure


def reuse_map(tables: Sequence[Sequence[Sequence[float]]]) -> Figure:
    """Draw what each unit of a dense stack reads: sources upwards, readers to the right."""
    figure, axes = _panels(len(tables))
    for stage, (one, table) in enumerate(zip(axes, tables, strict=True)):
        image = np.full((len(table), len(table)), np.nan)
        for reader, row in enumerate(table):
            image[: len(row), reader] = row
        drawn = one.imshow(image, origin="lower", cmap="viridis", vmin=0)
        figure.colorbar(drawn, ax=one, label="mean |weight|")
        one.set(title=f"reuse in stage {stage}", xlabel="reader (the last: the transition)")
        one.set(ylabel="source (0: the stage's input)")
        one.locator_params(integer=True)
    return figure


def attention_maps(maps: Mapping[int, Tensor], most: int = 4) -> Figure:
    """Draw the attention (T, T) of units in one item: frames read to the right, readers upwards."""
    step = max(1, -(-len(maps) // most))
    chosen = sorted(maps)[::step]
    figure, axes = _panels(len(chosen))
    for one, number in zip(axes, chosen, strict=True):
        one.imshow(maps[number].numpy(), origin="lower", aspect="auto", interpolation="nearest")
        one.set(title=f"unit {number}", xlabel="frame that is read", ylabel="frame that reads")
    return figure


def lesion_bars(place: str, increase: Sequence[float | None]) -> Figure:
    """Draw by how much the loss rises without each unit."""
    figure, (axes,) = _panels(1)
    numbers = [number for number, value in enumerate(increase) if value is not None]
    axes.bar(numbers, [value for value in increase if value is not None])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(title="loss without a unit", xlabel=f"unit of {place} that is dropped")
    axes.set(ylabel="rise of the validation loss")
    axes.locator_params(axis="x", integer=True)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.2 * max(count, 1), 3.2), layout="constrained")
    return figure, list(figure.subplots(1, max(count, 1), squeeze=False)[0])
