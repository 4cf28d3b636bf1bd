"""ConvNeXt block (Liu et al. 2022), in one dimension, as vocoders and speech encoders use it.

    F(x) = scale * W2 GELU(W1 LayerNorm(depthwise7(x)))

`scale` is learned for each channel and starts at 1e-6 (the paper's layer scale), so that a new
block with an additive skip is almost the identity. Departure: time instead of image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.layers import MaskedConv1d
from tacoskip.blocks.transforms.base import Transform


class ConvNeXt(Transform):
    """x (B, T, in), mask (B, T) -> (B, T, out)."""

    options = ("kernel_size", "expand", "scale")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 7,
        expand: int = 4,
        scale: float = 1e-6,
    ):
        super().__init__()
        self.conv = MaskedConv1d(in_channels, in_channels, kernel_size, groups=in_channels)
        self.norm = nn.LayerNorm(in_channels, eps=1e-6)
        self.widen = nn.Linear(in_channels, expand * in_channels)
        self.narrow = nn.Linear(expand * in_channels, out_channels)
        self.scale = nn.Parameter(torch.full((out_channels,), scale))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = functional.gelu(self.widen(self.norm(self.conv(x, mask))))
        return self.scale * self.narrow(h)
