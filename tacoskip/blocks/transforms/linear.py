"""The transform of highway networks (Srivastava, Greff and Schmidhuber 2015).

    F(x) = ReLU(W x + b)

Each frame alone.
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks.transforms.base import Transform


class Linear(Transform):
    """x (B, T, in), mask (B, T) -> (B, T, out)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.relu(self.linear(x))
