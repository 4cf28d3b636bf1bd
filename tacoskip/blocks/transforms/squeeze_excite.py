from typing import Any

import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import masked_mean
from tacoskip.blocks.transforms.basic import Basic


class SqueezeExcite(Basic):
    """F(x) = s * u, u = BN(conv3(ReLU(BN(conv3(x))))), s = sigmoid(W2 ReLU(W1 mean_t(u))), a ReLU
    after the join: SE-ResNet, Hu et al. 2018.

    One weight a channel and utterance; the mean counts real frames only.
    """

    name = "squeeze_excite"

    sees_all = True

    def __init__(self, in_channels: int, out_channels: int, *, reduction: int = 16, **options: Any):
        super().__init__(in_channels, out_channels, **options)
        inner = max(1, out_channels // reduction)
        self.squeeze = nn.Linear(out_channels, inner)
        self.excite = nn.Linear(inner, out_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        u = super().forward(x, mask)
        s = torch.sigmoid(self.excite(torch.relu(self.squeeze(masked_mean(u, mask)))))
        return u * s[:, None]
