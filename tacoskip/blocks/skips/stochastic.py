"""Stochastic depth (Huang et al. 2016): units fall out at random while training.

    training    y = x + b * F(x),   b in {0, 1}, P(b = 1) = p
    evaluation  y = x + p * F(x)

p falls from 1 at the input to `survival` at the last unit, as in the paper (p_L = 0.5). Departure:
b is drawn for each example, not for the batch.
"""

import torch
from torch import Tensor

from tacoskip.blocks.skips.base import Skip, Transforming


class Stochastic(Skip):
    """x + b F(x). place: of the unit in its stack, 1 the last; the stack fills it in."""

    def __init__(
        self, in_channels: int, out_channels: int, survival: float = 0.5, place: float = 1.0
    ):
        super().__init__(in_channels, out_channels)
        if not 0 < survival <= 1:
            raise ValueError(f"expected survival in (0, 1], got {survival}")
        self.survival = 1 - place * (1 - survival)

    def forward(self, x: Tensor, transform: Transforming, mask: Tensor) -> Tensor:
        h = transform(x, mask)
        if not self.training:
            return x + self.survival * h
        kept = torch.rand(len(x), 1, 1, device=x.device) < self.survival
        return x + h * kept
