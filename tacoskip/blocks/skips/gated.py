"""A gate on the skip alone, computed for each frame (after Savarese and Figueiredo 2017).

    y = g * x + F(x),   g = sigmoid(w . ReLU(W x + b) + 2)

One g a frame. It starts near 0.9, almost the plain sum. Departure: the paper's gate is one learned
number a unit; here it is computed from the frame, as in highway networks.
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip, TransformCall


class Gated(Skip):
    """g x + F(x), one g for each frame. reduction: of the gate network's width."""

    options = ("reduction", "gate_bias")

    def __init__(
        self, in_channels: int, out_channels: int, reduction: int = 4, gate_bias: float = 2.0
    ):
        super().__init__(in_channels, out_channels)
        inner = max(1, in_channels // reduction)
        first, last = nn.Linear(in_channels, inner), nn.Linear(inner, 1)
        self.gate = nn.Sequential(first, nn.ReLU(), last)
        nn.init.constant_(last.bias, gate_bias)

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(x)) * x + transform(x, mask)

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x))[:, :, 0]
        return (gate * mask).sum() / mask.sum()
