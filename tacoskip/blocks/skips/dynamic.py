import torch
from torch import Tensor

from tacoskip.blocks.layers import masked_mean
from tacoskip.blocks.skips.base import Skip, TransformCall, gate_network


class Dynamic(Skip):
    """x + g F(x), g in {0, 1} of each example: SkipNet, Wang et al. 2018.

        g = [w . ReLU(W mean_t(x) + b) + 1 > 0]

    In training g is drawn, P(g = 1) = p = sigmoid of what is compared with 0, and straight-through:
    hard forward, the slope of the sigmoid backward. Without the draw a trained unit never meets the
    loss of its absence. In evaluation the transform runs on the chosen examples only. `price` is
    the mean of p, the expected share of chosen examples. Departure: SkipNet's supervised stage does
    not draw, and reinforcement learning follows it.
    """

    name = "dynamic"

    sees_all = True

    def __init__(self, in_channels: int, out_channels: int, *, gate_bias: float = 1.0):
        super().__init__(in_channels, out_channels)
        self.gate = gate_network(in_channels, gate_bias)

    def chance(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return p of x (B, T, C): (B,), in (0, 1)."""
        return torch.sigmoid(self.gate(masked_mean(x, mask))[:, 0])

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        chance = self.chance(x, mask)
        if self.training:
            gate = (torch.rand_like(chance) < chance).to(chance.dtype) + chance - chance.detach()
            self.price = chance.mean()
            return x + gate[:, None, None] * transform(x, mask)
        chosen = chance > 0.5
        if self.fixed_graph:
            return torch.where(chosen[:, None, None], x + transform(x, mask), x)
        rows = chosen.nonzero()[:, 0]
        if len(rows) == 0:
            return x
        if len(rows) == len(x):
            return x + transform(x, mask)
        return x.index_add(0, rows, transform(x[rows], mask[rows]).to(x.dtype))

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the share of examples that run the unit."""
        return (self.chance(x, mask) > 0.5).float().mean()
