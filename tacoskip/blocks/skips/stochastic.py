"""Stochastic depth (Huang et al. 2016): units drop out at random in training.

    training    y = x + b * F(x),   b in {0, 1}, P(b = 1) = p
    evaluation  y = x + p * F(x)

p falls linearly from 1 at the input to `survival` at the last unit; 0.5 in the paper. Departure: b
is drawn for each example, not for the batch.
"""

import torch
from torch import Tensor

from tacoskip.blocks.skips.base import Skip, TransformCall


class Stochastic(Skip):
    """x + b F(x). survival: p of the last unit."""

    options = ("survival",)

    def __init__(self, in_channels: int, out_channels: int, survival: float = 0.5):
        super().__init__(in_channels, out_channels)
        if not 0 < survival <= 1:
            raise ValueError(f"expected survival in (0, 1], got {survival}")
        self.last_survival = survival

    @property
    def survival(self) -> float:
        """The unit's own p."""
        return 1 - self.place * (1 - self.last_survival)

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        h = transform(x, mask)
        if not self.training:
            return x + self.survival * h
        kept = torch.rand(len(x), 1, 1, device=x.device) < self.survival
        return x + h * kept
