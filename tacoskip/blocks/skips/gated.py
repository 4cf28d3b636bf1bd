"""An adaptive skip: a small network weighs it, frame by frame.

    y = g * x + F(x),   g = sigmoid(w . ReLU(W x + b) + 2)

One g a frame. It starts near 0.9, all but the plain sum, and can close where x is of no use; the
gate of Savarese and Figueiredo (2017, "Residual gates"), there one learnt number, is here computed
from the frame, as highway's is.
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip, Transforming


class Gated(Skip):
    """g x + F(x). reduction: width of x over the width of the small network."""

    def __init__(
        self, in_channels: int, out_channels: int, reduction: int = 4, gate_bias: float = 2.0
    ):
        super().__init__(in_channels, out_channels)
        inner = max(1, in_channels // reduction)
        self.gate = nn.Sequential(nn.Linear(in_channels, inner), nn.ReLU(), nn.Linear(inner, 1))
        nn.init.constant_(self.gate[2].bias, gate_bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, transform: Transforming, mask: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(x)) * x + transform(x, mask)

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        """Mean gate of the skip over real frames, in (0, 1)."""
        gate = torch.sigmoid(self.gate(x))[:, :, 0]
        return (gate * mask).sum() / mask.sum()
