"""Squeeze-and-excitation on a basic unit (Hu et al. 2018, SE-ResNet), in one dimension.

    F(x) = s * u,   u = BN(conv3(ReLU(BN(conv3(x))))),   s = sigmoid(W2 ReLU(W1 mean_t(u)))

then ReLU after the join. One weight a channel and utterance; the mean counts real frames only.
Departure: time instead of image.
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import masked_mean
from tacoskip.blocks.transforms.basic import Basic


class SqueezeExcite(Basic):
    """x (B, T, in), mask (B, T) -> (B, T, out)."""

    options = ("kernel_size", "reduction")
    sees_all = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, reduction: int = 16
    ):
        super().__init__(in_channels, out_channels, kernel_size)
        inner = max(1, out_channels // reduction)
        self.squeeze = nn.Linear(out_channels, inner)
        self.excite = nn.Linear(inner, out_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        u = super().forward(x, mask)
        s = torch.sigmoid(self.excite(torch.relu(self.squeeze(masked_mean(u, mask)))))
        return u * s[:, None]
