import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.transforms.base import Transform


class Basic(Transform):
    """F(x) = BN(conv3(ReLU(BN(conv3(x))))), ReLU after the join: ResNet, He et al. 2015."""

    name = "basic"

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 3):
        super().__init__()
        self.conv1 = MaskedConv1d(in_channels, out_channels, kernel_size, bias=False)
        self.norm1 = MaskedBatchNorm1d(out_channels)
        self.conv2 = MaskedConv1d(out_channels, out_channels, kernel_size, bias=False)
        self.norm2 = MaskedBatchNorm1d(out_channels)
        self.after = nn.ReLU()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = torch.relu(self.norm1(self.conv1(x, mask), mask))
        return self.norm2(self.conv2(h, mask), mask)
