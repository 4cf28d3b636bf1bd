"""The basic unit of ResNet (He et al. 2015, "Deep residual learning"), in one dimension.

    F(x) = BN(conv3(ReLU(BN(conv3(x))))),   then ReLU after the join

Departure: convolutions run over time instead of over an image.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.transforms.base import Transform


class Basic(Transform):
    """x (B, T, in), mask (B, T) -> (B, T, out)."""

    options: ClassVar[tuple[str, ...]] = ("kernel_size",)

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3):
        super().__init__()
        self.conv1 = MaskedConv1d(in_channels, out_channels, kernel_size, bias=False)
        self.norm1 = MaskedBatchNorm1d(out_channels)
        self.conv2 = MaskedConv1d(out_channels, out_channels, kernel_size, bias=False)
        self.norm2 = MaskedBatchNorm1d(out_channels)
        self.after = nn.ReLU()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = torch.relu(self.norm1(self.conv1(x, mask), mask))
        return self.norm2(self.conv2(h, mask), mask)
