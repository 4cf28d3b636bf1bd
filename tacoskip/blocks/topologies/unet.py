import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.skips.fixed import Add, Concat, NoSkip
from tacoskip.blocks.topologies.base import Make, Topology
from tacoskip.blocks.unit import Unit
from tacoskip.masks import clear_padding


class UNet(Topology):
    """x = U(x), mean of two frames on the way down; x = U(join(x kept, every frame twice)): U-Net,
    Ronneberger et al. 2015.

    `levels` at most, a pair of units each; further units stand at the bottom. A long skip joins by
    sum (add), by a 1x1 convolution of both (concat), or not at all (none). Departures: the mean of
    the real frames instead of max pooling, repetition instead of a transposed convolution, equal
    lengths instead of cropping, one width at all levels.
    """

    name = "unet"
    joins, joins_reason = (NoSkip, Add, Concat), "its long skips join outputs of one width"

    def __init__(self, channels: int, depth: int, make: Make, *, levels: int = 4):
        size = channels, channels
        super().__init__(Unit(make.transform(*size), NoSkip(*size)) for _ in range(depth))
        self.levels = min(levels, depth // 2)
        self.joins_up = nn.ModuleList(make.skip(*size) for _ in range(self.levels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = clear_padding(x, mask)
        kept: list[tuple[Tensor, Tensor]] = []
        first_up = len(self.units) - self.levels
        for i, unit in enumerate(self.units):
            if i >= first_up:
                long, mask = kept.pop()
                up = x.index_select(1, torch.arange(long.shape[1], device=x.device) // 2)
                # The skip's x is the output kept on the way down, its F(x) what comes from below.
                x = self.joins_up[len(kept)](long, lambda *_, up=up: up, mask)
            x = unit(x, mask)
            if i < self.levels:
                kept.append((x, mask))
                x, mask = halve(x, mask)
        return x

    @property
    def long_skips(self) -> list[Skip]:
        return list(self.joins_up)  # type: ignore[arg-type]


def halve(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of the real frames of every two, T rounded up.

    x (B, T, C), mask (B, T) -> (B, T/2, C), (B, T/2).
    """
    first, first_real = x[:, ::2], mask[:, ::2]
    # One frame more than x has, so that an odd T needs no case of its own (and can be traced).
    second = functional.pad(x, (0, 0, 0, 1))[:, 1::2]
    second_real = functional.pad(mask, (0, 1))[:, 1::2]
    both = (first_real & second_real)[:, :, None]
    return (first + second) / (1 + both.to(x.dtype)), first_real | second_real
