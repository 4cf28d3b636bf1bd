"""What transforms share."""

import math
from abc import ABC, abstractmethod

from torch import Tensor, nn


class Transform(nn.Module, ABC):
    """Base of all transforms; see the package's docstring for the contract."""

    sees_all = False

    def __init__(self) -> None:
        super().__init__()
        self.after: nn.Module = nn.Identity()

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """F of x (B, T, in), mask (B, T): (B, T, out)."""


def inner_width(channels: int, reduction: int, groups: int) -> int:
    """Return channels // reduction, at least 1, rounded up to as many in every group."""
    return groups * math.ceil(max(1, channels // reduction) / groups)
