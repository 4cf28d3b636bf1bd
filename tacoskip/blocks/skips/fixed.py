import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip, TransformCall


class NoSkip(Skip):
    """F(x), the control of every comparison."""

    name = "none"

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        return transform(x, mask)


class Add(Skip):
    """x + F(x): ResNet, He et al. 2015."""

    name = "add"

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        return x + transform(x, mask)


class Concat(Skip):
    """W [x, F(x)] + b: after DenseNet, Huang et al. 2017."""

    name = "concat"

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels)
        self.mix = nn.Linear(in_channels + out_channels, out_channels)

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        return self.mix(torch.cat([x, transform(x, mask)], 2))
