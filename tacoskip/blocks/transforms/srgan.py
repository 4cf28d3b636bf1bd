from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.transforms.base import Transform


class SRGAN(Transform):
    """F(x) = BN(conv3(PReLU(BN(conv3(x))))): SRGAN, Ledig et al. 2017.

    One learned slope below zero for all channels, as in the paper's network.
    """

    name = "srgan"

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 3):
        super().__init__()
        self.conv1 = MaskedConv1d(in_channels, out_channels, kernel_size, bias=False)
        self.norm1 = MaskedBatchNorm1d(out_channels)
        self.slope = nn.PReLU()
        self.conv2 = MaskedConv1d(out_channels, out_channels, kernel_size, bias=False)
        self.norm2 = MaskedBatchNorm1d(out_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.slope(self.norm1(self.conv1(x, mask), mask))
        return self.norm2(self.conv2(h, mask), mask)
