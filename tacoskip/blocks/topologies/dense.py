"""Every unit reads all outputs before it (DenseNet, Huang et al. 2017).

    x_l = F_l([x_0, x_1, ..., x_(l-1)]),   F_l `growth` wide

After each stage BN, ReLU and a 1x1 convolution: between stages they halve the width
(`compression`, DenseNet-BC), after the last they bring it back to the stack's. Departure: no
pooling between stages.
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d
from tacoskip.blocks.topologies.chain import MakeSkip, MakeTransform
from tacoskip.blocks.transforms.base import Transform


class Transition(nn.Module):
    """1x1 convolution of ReLU(BN(x)): (B, T, in) -> (B, T, out)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm = MaskedBatchNorm1d(in_channels)
        self.linear = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(torch.relu(self.norm(x, mask))).masked_fill(~mask[:, :, None], 0.0)


class Dense(nn.Module):
    """x (B, T, C), mask (B, T) -> (B, T, C). Depth 0 passes x on."""

    def __init__(
        self,
        channels: int,
        depth: int,
        make_transform: MakeTransform,
        make_skip: MakeSkip,
        growth: int = 32,
        stages: int = 1,
        compression: float = 0.5,
    ):
        super().__init__()
        self.units, self.transitions = nn.ModuleList(), nn.ModuleDict()
        width = channels
        for i in range(depth):
            self.units.append(make_transform(width, growth))
            width += growth
            last = i == depth - 1
            if last or (i + 1) * stages // depth != i * stages // depth:
                narrow = channels if last else max(1, int(width * compression))
                self.transitions[str(i)] = Transition(width, narrow)
                width = narrow

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x.masked_fill(~mask[:, :, None], 0.0)
        for i, unit in enumerate(self.units):
            assert isinstance(unit, Transform)
            h = unit.after(unit(x, mask)).masked_fill(~mask[:, :, None], 0.0)
            x = torch.cat([x, h], 2)
            if str(i) in self.transitions:
                x = self.transitions[str(i)](x, mask)
        return x
