from typing import Any

import torch
from torch import Tensor

from tacoskip.blocks.skips.fixed import Add
from tacoskip.blocks.topologies.base import Make, Topology
from tacoskip.blocks.transforms.base import Transform
from tacoskip.blocks.unit import BaseUnit
from tacoskip.masks import clear_padding


class Coupling(BaseUnit):
    """x1, x2 (B, T, C/2), mask (B, T) -> y1, y2, by F and G."""

    streams = 2

    def __init__(self, f: Transform, g: Transform):
        super().__init__()
        self.f, self.g = f, g

    def forward(self, x1: Tensor, x2: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        y1 = x1 + branch(self.f, x2, mask)
        return y1, x2 + branch(self.g, y1, mask)

    def bypass(self, inputs: tuple[Tensor, ...], output: Any) -> Any:
        return inputs[:2]


def branch(transform: Transform, x: Tensor, mask: Tensor) -> Tensor:
    """Return the transform of a stream, computed in the precision of its weights."""
    h = transform(x.to(next(transform.parameters(), x).dtype), mask)
    return clear_padding(h.to(x.dtype), mask)


class Reversible(Topology):
    """y1 = x1 + F(x2), y2 = x2 + G(y1): RevNet, Gomez et al. 2017.

    And back: x2 = y2 - G(y1), x1 = y1 - F(x2). x1 and x2 are the halves of the channels.
    `tacoskip.kernels` rebuilds the activations in backward, so that memory does not grow with
    depth; here they are kept. The streams are summed in double precision: rebuilt in single
    precision they would differ in their last bits, which turns a ReLU here and a rounding to
    bfloat16 there. Departures: that; what follows the join of a transform (a ReLU) is left out,
    since it cannot be undone. Raises ValueError for an odd C.
    """

    name = "reversible"
    joins, joins_reason = (Add,), "only a sum can be taken back to rebuild what went in"

    def __init__(self, channels: int, depth: int, make: Make):
        if channels % 2:
            raise ValueError(f"reversible expects an even width to halve, got {channels}")
        half = channels // 2, channels // 2
        super().__init__(
            Coupling(make.transform(*half), make.transform(*half)) for _ in range(depth)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x1, x2 = clear_padding(x, mask).double().chunk(2, dim=2)
        return torch.cat(self.couple(x1, x2, mask), 2).to(x.dtype)

    def couple(self, x1: Tensor, x2: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the streams behind the last unit."""
        for unit in self.units:
            x1, x2 = unit(x1, x2, mask)
        return x1, x2
