import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.layers import MaskedConv1d
from tacoskip.blocks.transforms.base import Transform


class ConvNeXt(Transform):
    """F(x) = s * W2 GELU(W1 LayerNorm(depthwise7(x))), s from 1e-6: ConvNeXt, Liu et al. 2022.

    s, learned for each channel, makes a new block with an additive skip almost the identity.
    """

    name = "convnext"

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int = 7, expand: int = 4
    ):
        super().__init__()
        self.conv = MaskedConv1d(in_channels, in_channels, kernel_size, groups=in_channels)
        self.norm = nn.LayerNorm(in_channels, eps=1e-6)
        self.widen = nn.Linear(in_channels, expand * in_channels)
        self.narrow = nn.Linear(expand * in_channels, out_channels)
        self.scale = nn.Parameter(torch.full((out_channels,), 1e-6))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = functional.gelu(self.widen(self.norm(self.conv(x, mask))))
        return self.scale * self.narrow(h)
