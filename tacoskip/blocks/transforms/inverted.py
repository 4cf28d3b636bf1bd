from torch import Tensor
from torch.nn import functional

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.transforms.base import Transform


class Inverted(Transform):
    """F(x) = BN(conv1(ReLU6(BN(depthwise3(ReLU6(BN(conv1(x)))))))), inner width 6C: MobileNetV2,
    Sandler et al. 2018.
    """

    name = "inverted"

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int = 3, expand: int = 6
    ):
        super().__init__()
        inner = expand * in_channels
        self.conv1 = MaskedConv1d(in_channels, inner, 1, bias=False)
        self.norm1 = MaskedBatchNorm1d(inner)
        self.conv2 = MaskedConv1d(inner, inner, kernel_size, bias=False, groups=inner)
        self.norm2 = MaskedBatchNorm1d(inner)
        self.conv3 = MaskedConv1d(inner, out_channels, 1, bias=False)
        self.norm3 = MaskedBatchNorm1d(out_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = functional.relu6(self.norm1(self.conv1(x, mask), mask))
        h = functional.relu6(self.norm2(self.conv2(h, mask), mask))
        return self.norm3(self.conv3(h, mask), mask)
