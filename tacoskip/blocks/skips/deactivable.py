import math

import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip, TransformCall

LOW, HIGH, BETA = -0.1, 1.1, 2 / 3


class Deactivable(Skip):
    """x + z F(x), z of the unit, 0 removes it: hard-concrete gates, Louizos et al. 2018.

        z = clamp(1.2 s - 0.1, 0, 1),   s = sigmoid((log u - log(1 - u) + a) / beta)

    u is uniform noise in training, one draw a batch; in evaluation s = sigmoid(a). `price` is the
    probability that z is not 0: the expected number of units in use. A gate that is 0 in evaluation
    is closed: the transform does not run, and `tacoskip.blocks.prune` removes it. a starts at 2,
    mostly open; beta is the paper's 2/3.
    """

    name = "deactivable"

    def __init__(self, in_channels: int, out_channels: int, *, start: float = 2.0):
        super().__init__(in_channels, out_channels)
        self.log_alpha = nn.Parameter(torch.tensor(start))

    def gate(self) -> Tensor:
        """Return z, a scalar: sampled in training, fixed in evaluation."""
        if not self.training:
            return _stretched(self.log_alpha)
        u = torch.rand_like(self.log_alpha).clamp(1e-6, 1 - 1e-6)
        return _stretched((self.log_alpha + u.log() - (1 - u).log()) / BETA)

    @property
    def closed(self) -> bool:
        return float(_stretched(self.log_alpha.detach())) == 0

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        if self.training:
            self.price = torch.sigmoid(self.log_alpha - BETA * math.log(-LOW / HIGH))
        elif not self.fixed_graph and self.closed:
            return x
        return x + self.gate() * transform(x, mask)

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        return _stretched(self.log_alpha)


def _stretched(logit: Tensor) -> Tensor:
    return (torch.sigmoid(logit) * (HIGH - LOW) + LOW).clamp(0, 1)
