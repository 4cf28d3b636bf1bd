"""Units: what a stack is made of."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.transforms.base import Transform
from tacoskip.masks import clear_padding


class BaseUnit(nn.Module, ABC):
    """A unit of a stack, and what the probes need to know of it.

    skip: around the unit's transform; None: the stack joins in another way.
    streams: tensors that pass through the unit side by side.
    """

    streams = 1

    def __init__(self) -> None:
        super().__init__()
        self.skip: Skip | None = None

    @property
    def transforms(self) -> list[Transform]:
        """The transforms inside, in the order in which they run."""
        return [child for child in self.children() if isinstance(child, Transform)]

    @abstractmethod
    def bypass(self, inputs: tuple[Tensor, ...], output: Any) -> Any:
        """Return what the unit would give without its transforms, in place of `output`."""

    @property
    def changes_width(self) -> bool:
        """Whether the unit's output is not as wide as its input, so that it has no bypass."""
        return self.skip is not None and self.skip.in_channels != self.skip.out_channels


class Unit(BaseUnit):
    """y = after(skip(x, F(x))): x (B, T, in), mask (B, T) -> (B, T, out), zero at padded frames."""

    skip: Skip

    def __init__(self, transform: Transform, skip: Skip):
        super().__init__()
        self.transform, self.skip = transform, skip

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.transform.after(self.skip(x, self.transform, mask))
        return clear_padding(y, mask)

    def bypass(self, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x, mask = inputs
        return clear_padding(self.transform.after(x), mask)


class Branch(BaseUnit):
    """after(F(x)) alone, which the stack joins: x (B, T, in), mask (B, T) -> (B, T, out), zero at
    padded frames.
    """

    def __init__(self, transform: Transform):
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.transform.after(self.transform(x, mask)).masked_fill(~mask[:, :, None], 0.0)

    def bypass(self, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.zeros_like(output)


class PrunedUnit(BaseUnit):
    """What is left of a unit whose gate is closed: after(x)."""

    def __init__(self, after: nn.Module):
        super().__init__()
        self.after = after

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.after(x)

    def bypass(self, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output
