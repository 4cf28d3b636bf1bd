"""Base class of transforms: the F of y = skip(x, F(x))."""

import math
from abc import ABC, abstractmethod

from torch import Tensor, nn

from tacoskip.blocks.part import Part


class Transform(Part, ABC):
    """F: x (B, T, in), mask (B, T) -> (B, T, out).

    Constructed with the width of the input, the width of the output, and the options. The
    output may hold anything at padded frames (the unit zeroes them), but its real frames must not
    depend on padded ones. Where a paper is about images, convolutions run over time instead.

    after: what follows the join of x and F(x), the ReLU of a post-activation unit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.after: nn.Module = nn.Identity()

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return F of x (B, T, in), mask (B, T): (B, T, out)."""

    def attention(self, x: Tensor, mask: Tensor) -> Tensor | None:
        """Return the weight of frame j in frame i: (B, T, T); None: F has no attention."""
        return None


def inner_width(channels: int, reduction: int, groups: int) -> int:
    """Return channels // reduction, at least 1, rounded up to a multiple of `groups`."""
    return groups * math.ceil(max(1, channels // reduction) / groups)
