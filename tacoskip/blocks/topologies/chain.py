from itertools import pairwise

from torch import Tensor, nn

from tacoskip.blocks.topologies.base import Make, Topology
from tacoskip.blocks.unit import Unit
from tacoskip.masks import clear_padding


class Chain(Topology):
    """One unit after another.

    stages: the width doubles at the start of each but the first, and a last 1x1 convolution brings
    it back; 0: two with a skip that joins different widths, else one.
    """

    name = "chain"

    def __init__(self, channels: int, depth: int, make: Make, *, stages: int = 0):
        stages = stages or (2 if make.widens else 1)
        widths = [channels, *(channels * 2 ** (i * stages // depth) for i in range(depth))]
        super().__init__(Unit(make.transform(*w), make.skip(*w)) for w in pairwise(widths))
        self.narrow = nn.Linear(widths[-1], channels) if widths[-1] != channels else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = clear_padding(x, mask)
        for unit in self.units:
            x = unit(x, mask)
        return x if self.narrow is None else clear_padding(self.narrow(x), mask)
