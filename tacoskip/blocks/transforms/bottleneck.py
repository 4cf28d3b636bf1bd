from typing import Any

import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.transforms.base import Transform, inner_width


class Bottleneck(Transform):
    """F(x) = BN(conv1(ReLU(BN(conv3(ReLU(BN(conv1(x)))))))), ReLU after the join: ResNet, He et al.
    2015.

    The inner width is out_channels / reduction, rounded up to a multiple of `groups`.
    """

    name = "bottleneck"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
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
    """F(x) = a bottleneck of half the width, conv3 of 32 groups: ResNeXt, Xie et al. 2017."""

    name = "grouped"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        reduction: int = 2,
        groups: int = 32,
        **options: Any,
    ):
        super().__init__(in_channels, out_channels, reduction=reduction, groups=groups, **options)
