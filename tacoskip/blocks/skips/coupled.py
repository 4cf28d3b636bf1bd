import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip, TransformCall


class Coupled(Skip):
    """t F(x) + (1 - t) x, t = sigmoid(V x + b): highway networks, Srivastava et al. 2015.

    One gate for each channel and frame. b starts at -1, as in Wang et al. (2017), so that a new
    stack mostly carries its input.
    """

    name = "coupled"

    def __init__(self, in_channels: int, out_channels: int, *, gate_bias: float = -1.0):
        super().__init__(in_channels, out_channels)
        self.gate = nn.Linear(in_channels, out_channels)
        nn.init.constant_(self.gate.bias, gate_bias)

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        return x + torch.sigmoid(self.gate(x)) * (transform(x, mask) - x)

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(x))[mask].mean()
