"""Bottleneck units: ResNet's (He et al. 2015), and ResNeXt's with groups (Xie et al. 2017).

    F(x) = BN(conv1(ReLU(BN(conv3(ReLU(BN(conv1(x)))))))),   then ReLU after the join

The inner width is out_channels / reduction: a quarter in ResNet; a half, split into 32 groups, in
ResNeXt (32x4d), rounded up to a whole number of channels a group. Departure: time instead of image.
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.transforms.base import Transform, inner_width


class Bottleneck(Transform):
    """x (B, T, in), mask (B, T) -> (B, T, out)."""

    options = ("kernel_size", "reduction", "groups")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        reduction: int = 4,
        groups: int = 1,
    ):
        super().__init__()
        inner = inner_width(out_channels, reduction, groups)
        self.conv1 = MaskedConv1d(in_channels, inner, 1, bias=False)
        self.norm1 = MaskedBatchNorm1d(inner)
        self.conv2 = MaskedConv1d(inner, inner, kernel_size, bias=False, groups=groups)
        self.norm2 = MaskedBatchNorm1d(inner)
        self.conv3 = MaskedConv1d(inner, out_channels, 1, bias=False)
        self.norm3 = MaskedBatchNorm1d(out_channels)
        self.after = nn.ReLU()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = torch.relu(self.norm1(self.conv1(x, mask), mask))
        h = torch.relu(self.norm2(self.conv2(h, mask), mask))
        return self.norm3(self.conv3(h, mask), mask)


class Grouped(Bottleneck):
    """ResNeXt's bottleneck: half the width inside, in `groups` groups (the paper's cardinality)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        reduction: int = 2,
        groups: int = 32,
    ):
        super().__init__(in_channels, out_channels, kernel_size, reduction, groups)
