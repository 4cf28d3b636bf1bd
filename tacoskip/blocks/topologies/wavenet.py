import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.fixed import NoSkip
from tacoskip.blocks.topologies.base import Make, Mixing


class WaveNet(Mixing):
    """x_l = x_(l-1) + F_l(x_(l-1)), y = W ReLU(sum_l S_l F_l(x_(l-1))): WaveNet, van den Oord
    et al. 2016.

    Departures: S_l reads F behind its 1x1 convolution, not before; one 1x1 convolution follows the
    sum, not two.
    """

    name = "wavenet"
    joins, joins_reason = (NoSkip,), "it sums the outputs of its units itself"

    def __init__(self, channels: int, depth: int, make: Make):
        super().__init__(make.branches(channels, depth))
        self.to_skip = nn.ModuleList(nn.Linear(channels, channels) for _ in range(depth))
        self.out = nn.Linear(channels, channels) if depth else None

    def mix(self, layer: int, outputs: list[Tensor], mask: Tensor) -> Tensor:
        if self.out is None or layer < len(self.units):
            return torch.stack(outputs).sum(0)
        skips = [skip(h) for skip, h in zip(self.to_skip, outputs[1:], strict=True)]
        return self.out(torch.relu(torch.stack(skips).sum(0)))
