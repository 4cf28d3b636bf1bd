import torch
from torch import Tensor, nn

from tacoskip.blocks.transforms.base import Transform


class Linear(Transform):
    """F(x) = ReLU(W x + b), each frame alone: highway networks, Srivastava et al. 2015."""

    name = "linear"

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.relu(self.linear(x))
