"""Units one after another."""

from itertools import pairwise

from torch import Tensor, nn

from tacoskip.blocks.topologies.base import Make, Topology
from tacoskip.blocks.unit import Unit
from tacoskip.masks import clear_padding


class Chain(Topology):
    """x (B, T, C), mask (B, T) -> (B, T, C).

    stages: the width doubles at the start of each stage but the first, and a last 1x1 convolution
    brings it back; 1 keeps the width throughout.
    """

    options = ("stages",)
    sequential = True

    def __init__(self, channels: int, depth: int, make: Make, stages: int = 1):
        super().__init__()
        widths = [channels, *(channels * 2 ** (i * stages // depth) for i in range(depth))]
        for i, (a, b) in enumerate(pairwise(widths)):
            unit = Unit(make.transform(a, b), make.skip(a, b))
            unit.skip.place = (i + 1) / depth
            self.units.append(unit)
        self.narrow = nn.Linear(widths[-1], channels) if widths[-1] != channels else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = clear_padding(x, mask)
        for unit in self.units:
            x = unit(x, mask)
        return x if self.narrow is None else clear_padding(self.narrow(x), mask)
