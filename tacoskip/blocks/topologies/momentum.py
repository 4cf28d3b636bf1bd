import torch
from torch import Tensor

from tacoskip.blocks.skips.fixed import Add
from tacoskip.blocks.topologies.base import Make, Topology
from tacoskip.masks import clear_padding


class Momentum(Topology):
    """v' = g v + (1 - g) F(x), x' = x + v', v from 0: momentum ResNet, Sander et al. 2021.

    Invertible for g > 0: see `invert`. Departure: activations are kept, not rebuilt in backward.
    """

    name = "momentum"
    joins, joins_reason = (Add,), "its velocity is added"

    def __init__(self, channels: int, depth: int, make: Make, *, momentum: float = 0.9):
        super().__init__(make.branches(channels, depth))
        if not 0 < momentum < 1:
            raise ValueError(f"expected momentum between 0 and 1, got {momentum}")
        self.momentum = momentum

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.run(x, mask)[0]

    def run(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and v (B, T, C) behind the last unit."""
        x = clear_padding(x, mask)
        v = torch.zeros_like(x)
        for unit in self.units:
            v = self.momentum * v + (1 - self.momentum) * unit(x, mask)
            x = x + v
        return x, v

    def invert(self, x: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return what went into `run`, from what came out; in evaluation mode."""
        for unit in reversed(self.units):
            x = x - v
            v = (v - (1 - self.momentum) * unit(x, mask)) / self.momentum
        return x, v
