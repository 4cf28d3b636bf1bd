import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip, TransformCall

LEAST = 0.2


class Bypass(Skip):
    """x + c (F(x) - x), c of each channel in [0.2, 1], from 0.5: Zipformer, Yao et al. 2024.

    c is clipped. Departures: the lower bound is the paper's last one from the start (there it falls
    from 0.9); beyond a bound c has no gradient, where the authors' code pushes it back.
    """

    name = "bypass"

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels)
        self.scale = nn.Parameter(torch.full((out_channels,), 0.5))

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        return x + self.scale.clamp(LEAST, 1) * (transform(x, mask) - x)

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.scale.clamp(LEAST, 1).mean()
