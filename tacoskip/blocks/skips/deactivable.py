"""A unit that training can switch off for good: hard-concrete gates (Louizos et al. 2018).

    y = x + z * F(x),   z = clamp(1.2 s - 0.1, 0, 1),   s = sigmoid((log u - log(1 - u) + a) / beta)

u is uniform noise in training, one draw a batch; in evaluation s = sigmoid(a). `price` is the
probability that z is not 0, the expected number of units in use, to be weighed into the loss. A
gate that stands at 0 in evaluation is closed: the transform is not run, and `tacoskip.blocks.prune`
removes it; without that, a traced or exported network computes it and multiplies by 0. a starts at
2, mostly open; beta is the paper's 2/3.
"""

import math

import torch
from torch import Tensor, nn

from tacoskip.blocks.recorded import is_recorded
from tacoskip.blocks.skips.base import Skip, Transforming

LOW, HIGH, BETA = -0.1, 1.1, 2 / 3


class Deactivable(Skip):
    """x + z F(x), one z a unit, learnt to be 0 or 1."""

    def __init__(self, in_channels: int, out_channels: int, start: float = 2.0):
        super().__init__(in_channels, out_channels)
        self.log_alpha = nn.Parameter(torch.tensor(start))
        self.price: Tensor | None = None

    def gate(self) -> Tensor:
        """z, a scalar: sampled in training, fixed in evaluation."""
        logit: Tensor = self.log_alpha
        if self.training:
            u = torch.rand_like(logit).clamp(1e-6, 1 - 1e-6)
            logit = (logit + u.log() - (1 - u).log()) / BETA
        return (torch.sigmoid(logit) * (HIGH - LOW) + LOW).clamp(0, 1)

    @property
    def closed(self) -> bool:
        """Whether the unit is switched off in evaluation."""
        return float(torch.sigmoid(self.log_alpha.detach())) * (HIGH - LOW) + LOW <= 0

    def forward(self, x: Tensor, transform: Transforming, mask: Tensor) -> Tensor:
        if self.training:
            self.price = torch.sigmoid(self.log_alpha - BETA * math.log(-LOW / HIGH))
        elif not is_recorded() and self.closed:
            return x
        return x + self.gate() * transform(x, mask)

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        """The gate in evaluation, in [0, 1]."""
        return (torch.sigmoid(self.log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)
