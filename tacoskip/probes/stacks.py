"""The stacks of a network by place, hooks on them, and means over what the hooks see."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

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


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks at the end."""
    handles = list(handles)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Probe(ABC):
    """Means of what hooks see in all passes inside `with probe.watching():`."""

    def __init__(self, model: nn.Module) -> None:
        self.stacks = stacks(model)
        self._sums: dict[Key, tuple[Tensor, int]] = {}

    @abstractmethod
    def hooks(self) -> Iterator[RemovableHandle]:
        """Register the hooks."""

    def watching(self) -> AbstractContextManager[None]:
        """Watch every pass inside."""
        return hooked(self.hooks())

    def add(self, key: Key, total: Tensor, count: int = 1) -> None:
        """Add a sum of `count` values."""
        before, n = self._sums.get(key, (torch.zeros(()), 0))
        self._sums[key] = before.to(total) + total.detach(), n + count

    def means(self) -> dict[Key, float]:
        """Return the means so far."""
        return {key: float(total) / count for key, (total, count) in self._sums.items()}

    def read(self) -> dict[str, ByUnit]:
        """Return the means so far by place."""
        return by_place(self.stacks, self.means())
