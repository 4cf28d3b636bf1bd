import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.blocks.transforms.base import Transform, inner_width


class Shuffle(Transform):
    """F(x) = BN(grouped1(BN(depthwise3(shuffle(ReLU(BN(grouped1(x)))))))), ReLU after the join:
    ShuffleNet, Zhang et al. 2018.

    The grouped 1x1 convolutions mix channels inside `groups` only; the shuffle between them lets
    every group read every other. Raises ValueError for a width that groups do not divide.
    """

    name = "shuffle"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        reduction: int = 4,
        groups: int = 4,
    ):
        super().__init__()
        for channels in (in_channels, out_channels):
            if channels % groups:
                raise ValueError(
                    f"shuffle expects a width that its {groups} groups divide, got {channels}"
                )
        self.groups = groups
        inner = inner_width(out_channels, reduction, groups)
        self.conv1 = MaskedConv1d(in_channels, inner, 1, bias=False, groups=groups)
        self.norm1 = MaskedBatchNorm1d(inner)
        self.conv2 = MaskedConv1d(inner, inner, kernel_size, bias=False, groups=inner)
        self.norm2 = MaskedBatchNorm1d(inner)
        self.conv3 = MaskedConv1d(inner, out_channels, 1, bias=False, groups=groups)
        self.norm3 = MaskedBatchNorm1d(out_channels)
        self.after = nn.ReLU()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = torch.relu(self.norm1(self.conv1(x, mask), mask))
        # Channel c of group g goes to place c * groups + g.
        h = h.unflatten(2, (self.groups, -1)).transpose(2, 3).flatten(2)
        h = self.norm2(self.conv2(h, mask), mask)
        return self.norm3(self.conv3(h, mask), mask)
