import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.skips.fixed import NoSkip
from tacoskip.blocks.topologies.base import Make, Topology
from tacoskip.masks import clear_padding

Weights = tuple[Tensor, Tensor, Tensor]


class Hyper(Topology):
    """H' = A H + b F(a H) on n streams H, all x at first: hyper-connections, Zhu et al. 2024.

    The output is the mean of the streams. a starts by reading one stream, another in each unit, b
    at 1, A at the identity. Departures: the weights do not depend on the frame (the paper's static
    kind); the mean instead of the sum, so that a stack of depth 0 returns x.
    """

    name = "hyper"
    joins, joins_reason = (NoSkip,), "its streams join the outputs of its units"

    def __init__(self, channels: int, depth: int, make: Make, *, streams: int = 4):
        super().__init__(make.branches(channels, depth))
        self.streams = streams
        first = functional.one_hot(torch.arange(depth) % streams, streams).float()
        self.read = nn.Parameter(first)
        self.write = nn.Parameter(torch.ones(depth, streams))
        self.carry = nn.Parameter(torch.eye(streams).repeat(depth, 1, 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = clear_padding(x, mask)[:, :, None].expand(-1, -1, self.streams, -1)  # (B, T, n, C)
        for unit, a, b, carry in zip(self.units, *self.weights(), strict=True):
            f = unit(torch.einsum("n,btnc->btc", a, h), mask)
            h = torch.einsum("mn,btnc->btmc", carry, h) + b[:, None] * f[:, :, None]
        return h.mean(2)

    def weights(self) -> Weights:
        """Return a (depth, n), b (depth, n) and A (depth, n, n)."""
        return self.read, self.write, self.carry


class ManifoldHyper(Hyper):
    """H' = A H + b F(a H) on n streams H, A doubly stochastic, a and b positive: mHC, Xie et al.
    2025.

    a = sigmoid(.), b = 2 sigmoid(.), A = 20 rounds of Sinkhorn and Knopp on exp(.). They start near
    those of `hyper`. Departures: those of `hyper`.
    """

    name = "mhc"

    def __init__(self, channels: int, depth: int, make: Make, *, streams: int = 4):
        super().__init__(channels, depth, make, streams=streams)
        with torch.no_grad():
            self.read.mul_(8).sub_(4)
            self.write.zero_()
            self.carry.mul_(8)

    def weights(self) -> Weights:
        carry = torch.softmax(self.carry, 2)
        for _ in range(20):
            carry = carry / carry.sum(1, keepdim=True)
            carry = carry / carry.sum(2, keepdim=True)
        return torch.sigmoid(self.read), 2 * torch.sigmoid(self.write), carry
