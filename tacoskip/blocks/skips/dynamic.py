"""A hard choice for each example: use the unit or pass it by (SkipNet, Wang et al. 2018).

    y = x + g * F(x),   g = [w . ReLU(W mean_t(x) + b) + 1 > 0]

In training the choice is drawn, P(g = 1) = sigmoid of what is compared with 0, and
straight-through: hard forward, the slope of the sigmoid backward (departures: SkipNet's supervised
stage does not draw, and reinforcement learning follows it). Without the draw a unit that has learnt
never sees what its absence costs, and the price leads the gate back to where it turns. In
evaluation the transform runs on the chosen examples only, and not at all where there are none; a
traced or exported network cannot choose what it runs, and computes both. `price` is the expected
share of chosen examples, to be weighed into the loss.
"""

import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import masked_mean
from tacoskip.blocks.recorded import is_recorded
from tacoskip.blocks.skips.base import Skip, Transforming


class Dynamic(Skip):
    """x + g F(x), g in {0, 1} for each example."""

    sees_all = True

    def __init__(
        self, in_channels: int, out_channels: int, reduction: int = 4, gate_bias: float = 1.0
    ):
        super().__init__(in_channels, out_channels)
        inner = max(1, in_channels // reduction)
        self.gate = nn.Sequential(nn.Linear(in_channels, inner), nn.ReLU(), nn.Linear(inner, 1))
        nn.init.constant_(self.gate[2].bias, gate_bias)  # type: ignore[arg-type]
        self.price: Tensor | None = None

    def chance(self, x: Tensor, mask: Tensor) -> Tensor:
        """The gate before it is made hard: (B,), in (0, 1)."""
        return torch.sigmoid(self.gate(masked_mean(x, mask))[:, 0])

    def forward(self, x: Tensor, transform: Transforming, mask: Tensor) -> Tensor:
        chance = self.chance(x, mask)
        if self.training:
            gate = (torch.rand_like(chance) < chance).to(chance.dtype) + chance - chance.detach()
            self.price = chance.mean()
            return x + gate[:, None, None] * transform(x, mask)
        chosen = chance > 0.5
        if is_recorded():
            return torch.where(chosen[:, None, None], x + transform(x, mask), x)
        rows = chosen.nonzero()[:, 0]
        if len(rows) == 0:
            return x
        if len(rows) == len(x):
            return x + transform(x, mask)
        return x.index_add(0, rows, transform(x[rows], mask[rows]).to(x.dtype))

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        """Share of examples that use the unit."""
        return (self.chance(x, mask) > 0.5).float().mean()
