"""The stacks of a network by place, and values of their units."""

from collections.abc import Mapping

from torch import nn

from tacoskip.blocks import Topology
from tacoskip.models.cbhg import CBHG

# By measure, a value for each unit of a stack; None where a unit has none.
ByUnit = dict[str, list[float | None]]
Key = tuple[str, str, int]  # place, measure, unit


def stacks(model: nn.Module) -> dict[str, Topology]:
    """Return the stacks of a network by place, without those of depth 0."""
    found = {
        name.removesuffix("cbhg").rstrip(".") or "cbhg": module.stack
        for name, module in model.named_modules()
        if isinstance(module, CBHG)
    }
    return {place: stack for place, stack in found.items() if len(stack.units)}


def by_place(stacks: Mapping[str, Topology], values: Mapping[Key, float]) -> dict[str, ByUnit]:
    """Arrange values by place, measure and unit.

    A list is as long as its stack is deep; of `norm_before` 1, of `long_...` one a long skip.
    """
    found: dict[str, ByUnit] = {place: {} for place in stacks}
    for (place, name, number), value in values.items():
        stack = stacks[place]
        length = len(stack.long_skips) if name.startswith("long") else len(stack.units)
        length = 1 if name == "norm_before" else length
        found[place].setdefault(name, [None] * length)[number] = value
    return found
