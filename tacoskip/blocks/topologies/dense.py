import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d
from tacoskip.blocks.skips.fixed import Concat
from tacoskip.blocks.topologies.base import Make, Mixing
from tacoskip.blocks.unit import Branch
from tacoskip.masks import clear_padding


class Transition(nn.Module):
    """1x1 convolution of ReLU(BN(x)): (B, T, in) -> (B, T, out)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm = MaskedBatchNorm1d(in_channels)
        self.linear = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return clear_padding(self.linear(torch.relu(self.norm(x, mask))), mask)


class Dense(Mixing):
    """x_l = F_l([x_0, x_1, ..., x_(l-1)]), F_l `growth` wide: DenseNet, Huang et al. 2017.

    After each stage BN, ReLU and a 1x1 convolution: between stages they narrow to `compression` of
    the width (DenseNet-BC), after the last they bring it back to the stack's. Departure: no pooling
    between stages.
    """

    name = "dense"
    joins, joins_reason = (Concat,), "its units read all earlier outputs side by side"
    growth = 32

    def __init__(
        self,
        channels: int,
        depth: int,
        make: Make,
        *,
        growth: int = growth,
        stages: int = 1,
        compression: float = 0.5,
    ):
        super().__init__()
        self.transitions = nn.ModuleDict()
        width = channels
        for i in range(depth):
            self.units.append(Branch(make.transform(width, growth)))
            width += growth
            last = i == depth - 1
            if last or (i + 1) * stages // depth != i * stages // depth:
                narrow = channels if last else max(1, int(width * compression))
                self.transitions[str(i)] = Transition(width, narrow)
                width = narrow

    def mix(self, layer: int, outputs: list[Tensor], mask: Tensor) -> Tensor:
        x = torch.cat(outputs, 2)
        if str(layer - 1) in self.transitions:
            x = self.transitions[str(layer - 1)](x, mask)
            outputs[:] = [x]
        return x

    @property
    def readers(self) -> list[list[nn.Module]]:
        stages: list[list[nn.Module]] = [[]]
        for i, unit in enumerate(self.units):
            stages[-1].append(unit)
            if str(i) in self.transitions:
                stages[-1].append(self.transitions[str(i)])
                stages.append([])
        return [stage for stage in stages if stage]
