import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.transforms.base import Transform


class DenseLayer(Transform):
    """F(x) = dropout(conv3(ReLU(BN(conv1(ReLU(BN(x))))))): DenseNet-BC, Huang et al. 2017.

    The 1x1 convolution brings its input to four times the output's width.
    """

    name = "dense"

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int = 3, dropout: float = 0.0
    ):
        super().__init__()
        inner = 4 * out_channels
        self.norm1 = MaskedBatchNorm1d(in_channels)
        self.conv1 = MaskedConv1d(in_channels, inner, 1, bias=False)
        self.norm2 = MaskedBatchNorm1d(inner)
        self.conv2 = MaskedConv1d(inner, out_channels, kernel_size, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.conv1(torch.relu(self.norm1(x, mask)), mask)
        return self.dropout(self.conv2(torch.relu(self.norm2(h, mask)), mask))
