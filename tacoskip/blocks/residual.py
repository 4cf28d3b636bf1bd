"""Residual and plain units (He et al. 2015), in one dimension.

    F(x) = BN(conv3(ReLU(BN(conv3(x)))))
    residual: y = ReLU(x + F(x))        plain: y = ReLU(F(x))

The plain unit is the residual one with its skip cut: the control of every comparison.
Departure: convolutions run over time (kernel 3) instead of over an image.
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d


class Residual(nn.Module):
    """One unit, with (`skip`) or without its skip: x (B, T, C), mask (B, T) -> (B, T, C)."""

    def __init__(self, channels: int, skip: bool, kernel_size: int = 3):
        super().__init__()
        self.skip = skip
        self.conv1 = MaskedConv1d(channels, channels, kernel_size, bias=False)
        self.norm1 = MaskedBatchNorm1d(channels)
        self.conv2 = MaskedConv1d(channels, channels, kernel_size, bias=False)
        self.norm2 = MaskedBatchNorm1d(channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = torch.relu(self.norm1(self.conv1(x, mask), mask))
        h = self.norm2(self.conv2(h, mask), mask)
        return torch.relu(x + h if self.skip else h)
