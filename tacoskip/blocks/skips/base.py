"""What skips share."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

Transforming = Callable[[Tensor, Tensor], Tensor]


class Skip(nn.Module, ABC):
    """Base of all skips; see the package's docstring for the contract.

    in_channels, out_channels: widths of x and of F(x). Raises ValueError where they must be equal
    and are not.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        if in_channels != out_channels:
            raise ValueError(
                f"{type(self).__name__} joins equal widths, got {in_channels} and {out_channels}"
            )

    @abstractmethod
    def forward(self, x: Tensor, transform: Transforming, mask: Tensor) -> Tensor:
        """Join x (B, T, in) and transform(x, mask (B, T)): (B, T, out)."""
