from typing import Any

import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip, TransformCall


class Learned(Skip):
    """alpha x + F(x), alpha learned, from 1: after He et al. 2016.

    per: one alpha for each unit or channel. on: what it weighs, the skip or the transform.
    """

    name = "learned"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
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


class ReZero(Learned):
    """x + alpha F(x), one alpha, from 0: ReZero, Bachlechner et al. 2021."""

    name = "rezero"
    per = "unit"

    def __init__(self, in_channels: int, out_channels: int, *, start: float = 0.0):
        super().__init__(in_channels, out_channels, per=self.per, on="transform", start=start)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        return dict(cls.__init__.__kwdefaults__ or {})


class SkipInit(ReZero):
    """x + alpha F(x), one alpha, from 0: SkipInit, De and Smith 2020.

    ReZero's formula. Departure: the paper takes batch normalisation out of F, here it stays.
    """

    name = "skipinit"


class LayerScale(ReZero):
    """x + alpha F(x), alpha of each channel, from 0.1: LayerScale in CaiT, Touvron et al. 2021.

    The paper starts at 0.1 up to 18 units, at 1e-5 up to 24, at 1e-6 beyond.
    """

    name = "layerscale"
    per = "channel"

    def __init__(self, in_channels: int, out_channels: int, *, start: float = 0.1):
        super().__init__(in_channels, out_channels, start=start)
