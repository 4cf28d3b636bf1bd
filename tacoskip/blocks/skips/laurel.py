import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip, TransformCall


class Laurel(Skip):
    """a F(x) + b (x + B A x), a + b = 2, from 1 each, B from 0: LAuReL, Menghani et al. 2024.

    The paper's RW and LR kinds together; `rank` is that of B A. Departure: [a, b] is twice a
    softmax, not a softmax, so that a new unit with any F is x + F(x).
    """

    name = "laurel"

    def __init__(self, in_channels: int, out_channels: int, *, rank: int = 16):
        super().__init__(in_channels, out_channels)
        self.weights = nn.Parameter(torch.zeros(2))
        self.down = nn.Linear(in_channels, rank, bias=False)
        self.up = nn.Linear(rank, out_channels, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        a, b = 2 * torch.softmax(self.weights, 0)
        return a * transform(x, mask) + b * (x + self.up(self.down(x)))
