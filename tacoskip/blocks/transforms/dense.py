"""Layer of DenseNet-BC (Huang et al. 2017), in one dimension.

    F(x) = dropout(conv3(ReLU(BN(conv1(ReLU(BN(x)))))))

The 1x1 convolution brings what came before to `bottleneck` times the output's width (4 in the
paper). Departure: time instead of image.
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.transforms.base import Transform


class DenseLayer(Transform):
    """x (B, T, in), mask (B, T) -> (B, T, out)."""

    options = ("kernel_size", "bottleneck", "dropout")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        bottleneck: int = 4,
        dropout: float = 0.0,
    ):
        super().__init__()
        inner = bottleneck * out_channels
        self.norm1 = MaskedBatchNorm1d(in_channels)
        self.conv1 = MaskedConv1d(in_channels, inner, 1, bias=False)
        self.norm2 = MaskedBatchNorm1d(inner)
        self.conv2 = MaskedConv1d(inner, out_channels, kernel_size, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.conv1(torch.relu(self.norm1(x, mask)), mask)
        return self.dropout(self.conv2(torch.relu(self.norm2(h, mask)), mask))
