import torch
from torch import Tensor

from tacoskip.blocks.skips.base import Skip, TransformCall


class Stochastic(Skip):
    """x + b F(x), b in {0, 1} at random, p F(x) in evaluation: stochastic depth, Huang et al. 2016.

    P(b = 1) = p falls linearly from 1 at the input to `survival` at the last unit. Departure: b is
    drawn for each example, not for the batch.
    """

    name = "stochastic"

    def __init__(self, in_channels: int, out_channels: int, *, survival: float = 0.5):
        super().__init__(in_channels, out_channels)
        if not 0 < survival <= 1:
            raise ValueError(f"expected survival in (0, 1], got {survival}")
        self.last_survival = survival

    @property
    def survival(self) -> float:
        """The unit's own p."""
        return 1 - self.layer / self.depth * (1 - self.last_survival)

    def forward(self, x: Tensor, transform: TransformCall, mask: Tensor) -> Tensor:
        h = transform(x, mask)
        if not self.training:
            return x + self.survival * h
        kept = torch.rand(len(x), 1, 1, device=x.device) < self.survival
        return x + h * kept
