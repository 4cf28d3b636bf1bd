from typing import Any

import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.transforms.base import Transform


class PreAct(Transform):
    """F(x) = conv3(dropout(ReLU(BN(conv3(ReLU(BN(x))))))): pre-activation, He et al. 2016.

    Nothing stands after the join, so a chain carries its input unchanged from end to end.
    widen: inner width over `out_channels`.
    """

    name = "preact"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        widen: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        inner = widen * out_channels
        self.norm1 = MaskedBatchNorm1d(in_channels)
        self.conv1 = MaskedConv1d(in_channels, inner, kernel_size, bias=False)
        self.norm2 = MaskedBatchNorm1d(inner)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = MaskedConv1d(inner, out_channels, kernel_size, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.conv1(torch.relu(self.norm1(x, mask)), mask)
        return self.conv2(self.dropout(torch.relu(self.norm2(h, mask))), mask)


class Wide(PreAct):
    """F(x) = pre-activation, four times as wide inside: wide networks, Zagoruyko et al. 2016.

    Departure: the paper widens the stream between units too, whose width here is the stack's.
    """

    name = "wide"

    def __init__(self, in_channels: int, out_channels: int, *, widen: int = 4, **options: Any):
        super().__init__(in_channels, out_channels, widen=widen, **options)
