import torch
from torch import Tensor

from tacoskip.blocks.skips.base import Skip, TransformCall, gate_network


class Gated(Skip):
    """g x + F(x), g = sigmoid(w . ReLU(W x + b) + 2) of each frame: after Savarese and Figueiredo
    2017.

    Departure: the paper's gate is one learned number a unit. It starts near 0.9, almost the sum.
    """

    name = "gated"

    def __init__(self, in_channels: int, out_channels: int, *, gate_bias: float = 2.0):
        super().__init__(in_channels, out_channels)
        self.gate = gate_network(in_channels, gate_bias)

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(x)) * x + transform(x, mask)

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(x))[mask].mean()
