"""The coupled gate of highway networks (Srivastava, Greff and Schmidhuber 2015).

    y = t * F(x) + (1 - t) * x,   t = sigmoid(V x + b)

b starts at -1 (Wang et al. 2017 through the highway paper), so that a new stack mostly carries its
input.
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip, Transforming


class Coupled(Skip):
    """One gate a channel and frame, shared between F(x) and x."""

    def __init__(self, in_channels: int, out_channels: int, gate_bias: float = -1.0):
        super().__init__(in_channels, out_channels)
        self.gate = nn.Linear(in_channels, out_channels)
        nn.init.constant_(self.gate.bias, gate_bias)

    def forward(self, x: Tensor, transform: Transforming, mask: Tensor) -> Tensor:
        return x + torch.sigmoid(self.gate(x)) * (transform(x, mask) - x)

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        """Mean gate over real frames, in (0, 1): how much of the transform is used."""
        gate = torch.sigmoid(self.gate(x))
        return (gate * mask[:, :, None]).sum() / (mask.sum() * gate.shape[2])
