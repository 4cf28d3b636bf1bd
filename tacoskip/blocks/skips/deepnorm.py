import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip, TransformCall


class DeepNorm(Skip):
    """LN(a x + b F(x)), a = N^(1/4), b from (4 N)^(-1/4), N units: DeepNet, Wang et al. 2022.

    The paper counts layers of two sublayers each; a unit is one of the latter. Departure: b, which
    there scales weights of F at the start, is a learned factor, since a normalisation inside F
    would undo the former.
    """

    name = "deepnorm"

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels)
        self.norm = nn.LayerNorm(out_channels)
        self.scale = nn.Parameter(torch.ones(1))
        self.set_position(1, 1)

    def set_position(self, layer: int, depth: int) -> None:
        super().set_position(layer, depth)
        nn.init.constant_(self.scale, (4 * depth) ** -0.25)

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        return self.norm(self.depth**0.25 * x + self.scale * transform(x, mask))

    def learned_weight(self) -> Tensor:
        return self.scale
