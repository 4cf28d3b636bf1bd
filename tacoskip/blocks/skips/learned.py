"""A learned weight on the skip or on the transform.

    on="skip"       y = alpha * x + F(x)     alpha starts at 1
    on="transform"  y = x + alpha * F(x)     with start=0 this is ReZero (Bachlechner et al. 2021)

One alpha a unit, or one a channel (per="channel").
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip, TransformCall


class Learned(Skip):
    """alpha x + F(x), or x + alpha F(x)."""

    options = ("per", "on", "start")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        per: str = "unit",
        on: str = "skip",
        start: float = 1.0,
    ):
        super().__init__(in_channels, out_channels)
        if per not in ("unit", "channel"):
            raise ValueError(f"expected per of unit, channel, got '{per}'")
        if on not in ("skip", "transform"):
            raise ValueError(f"expected on of skip, transform, got '{on}'")
        self.on_skip = on == "skip"
        self.alpha = nn.Parameter(torch.full((out_channels if per == "channel" else 1,), start))

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        h = transform(x, mask)
        return self.alpha * x + h if self.on_skip else x + self.alpha * h

    def learned_weight(self) -> Tensor:
        return self.alpha
