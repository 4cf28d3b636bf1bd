from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from tacoskip.blocks.skips.fixed import NoSkip
from tacoskip.blocks.topologies.base import Make, Topology
from tacoskip.blocks.unit import BaseUnit
from tacoskip.masks import clear_padding


class Fractal(Topology):
    """f_1 = F, f_(c+1)(x) = mean(f_c(f_c(x)), F(x)), joins in a row made one: FractalNet,
    Larsson et al. 2017.

    Fractals of `columns` at most, 2^columns - 1 units each, stand one behind the other. Drop-path
    in training, drawn for each example: half of them keep one column of a fractal, the others drop
    each input of a join with probability `drop` (the paper's 0.15), one at least is kept.
    Departure: what is dropped is computed and counts in batch statistics.
    """

    name = "fractal"
    joins, joins_reason = (NoSkip,), "its units meet in means"

    def __init__(
        self, channels: int, depth: int, make: Make, *, columns: int = 3, drop: float = 0.15
    ):
        super().__init__(make.branches(channels, depth))
        self.drop, self.fractals = drop, list[int]()
        while depth:
            self.fractals.append(min(columns, (depth + 1).bit_length() - 1))
            depth -= 2 ** self.fractals[-1] - 1

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x, units = clear_padding(x, mask), iter(self.units)
        for columns in self.fractals:
            one = torch.randint(columns, x.shape[:1], device=x.device) if self.training else None
            x = self.join(self.expand(x, mask, units, columns, one), one)
        return x

    def expand(
        self, x: Tensor, mask: Tensor, units: Iterator[BaseUnit], columns: int, one: Tensor | None
    ) -> list[Tensor]:
        """Return the outputs (B, T, C) of a fractal's columns, the longest path first."""
        if columns == 1:
            return [next(units)(x, mask)]
        half = self.join(self.expand(x, mask, units, columns - 1, one), one)
        return [*self.expand(half, mask, units, columns - 1, one), next(units)(x, mask)]

    def join(self, paths: list[Tensor], one: Tensor | None) -> Tensor:
        """Return the mean of the paths kept. one: column (B,) of a global drop; None: keep all."""
        count, stacked = len(paths), torch.stack(paths)
        if one is None:
            return stacked.mean(0)
        batch = len(one)
        spared = functional.one_hot(torch.randint(count, (batch,), device=one.device), count).T
        local = torch.rand(count, batch, device=one.device) >= self.drop
        local = torch.where(local.any(0), local, spared.bool())
        only = functional.one_hot(one.clamp(max=count - 1), count).T.bool()
        is_global = torch.arange(batch, device=one.device) % 2 == 0
        kept = torch.where(is_global, only, local).to(stacked.dtype)[:, :, None, None]
        return (kept * stacked).sum(0) / kept.sum(0)
