"""Skips without a choice: none at all, the sum (He et al. 2015), the concatenation.

none    y = F(x)                 the control of every comparison
add     y = x + F(x)
concat  y = W [x, F(x)] + b      side by side, then a 1x1 convolution back to the width
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip, TransformCall


class NoSkip(Skip):
    """F(x) alone."""

    has_shortcut = False

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        return transform(x, mask)


class Add(Skip):
    """x + F(x)."""

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        return x + transform(x, mask)


class Concat(Skip):
    """W [x, F(x)] + b."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels)
        self.mix = nn.Linear(in_channels + out_channels, out_channels)

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        return self.mix(torch.cat([x, transform(x, mask)], 2))
