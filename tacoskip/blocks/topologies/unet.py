"""Down and up in time, with long skips between equal lengths (U-Net, Ronneberger et al. 2015).

    down  x = U(x), kept; mean over two frames        up  x = U(join(kept, every frame twice))

`levels` at most, a pair of units each; units beyond them stand at the bottom. The long skip joins
by sum (add), by a 1x1 convolution of both (concat), or not at all (none). Departures: the mean of
the real frames instead of max pooling, repetition instead of a transposed convolution, equal
lengths instead of cropping, one width at all levels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.topologies.chain import MakeSkip, MakeTransform
from tacoskip.blocks.transforms.base import Transform


class Half(nn.Module):
    """One unit without a skip of its own: F(x) and what follows it, zero at padded frames."""

    def __init__(self, transform: Transform):
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = self.transform.after(self.transform(x, mask))
        return y.masked_fill(~mask[:, :, None], 0.0)


def halve(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the real ones of every two frames, the number of frames rounded up.

    x (B, T, C), mask (B, T) -> (B, T/2, C), (B, T/2).
    """
    first, first_real = x[:, ::2], mask[:, ::2]
    # One more frame than x has, so that an odd number needs no case of its own (and can be traced).
    second = functional.pad(x, (0, 0, 0, 1))[:, 1::2]
    second_real = functional.pad(mask, (0, 1))[:, 1::2]
    both = (first_real & second_real)[:, :, None]
    return (first + second) / (1 + both.to(x.dtype)), first_real | second_real


class UNet(nn.Module):
    """x (B, T, C), mask (B, T) -> (B, T, C). Depth 0 passes x on."""

    def __init__(
        self,
        channels: int,
        depth: int,
        make_transform: MakeTransform,
        make_skip: MakeSkip,
        levels: int = 4,
    ):
        super().__init__()
        self.levels = min(levels, depth // 2)
        self.units = nn.ModuleList(Half(make_transform(channels, channels)) for _ in range(depth))
        self.joins = nn.ModuleList(make_skip(channels, channels, 1.0) for _ in range(self.levels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x.masked_fill(~mask[:, :, None], 0.0)
        kept: list[tuple[Tensor, Tensor]] = []
        below = len(self.units) - self.levels
        for i, unit in enumerate(self.units):
            if i >= below:
                long, mask = kept.pop()
                up = x.index_select(1, torch.arange(long.shape[1], device=x.device) // 2)
                join = self.joins[len(kept)]
                assert isinstance(join, Skip)
                # The skip's x is the map kept on the way down, its F(x) what came from below.
                x = join(long, lambda *_, up=up: up, mask)
            x = unit(x, mask)
            if i < self.levels:
                kept.append((x, mask))
                x, mask = halve(x, mask)
        return x
