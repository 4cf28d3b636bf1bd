"""Every family of skip connection that can stand where CBHG's highway layers stand.

The contract of a block: `forward(x (B, T, C), mask (B, T)) -> (B, T, C)`, T unchanged, output zero
at padded frames, and no padded frame ever reaches a real one: in eval mode an item alone equals
itself in a padded batch, in training mode more padding changes neither output nor gradient.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from torch import Tensor, nn

from tacoskip.blocks.highway import Highway
from tacoskip.blocks.residual import Residual


@dataclass(frozen=True)
class Family:
    """A named point of the design: how one unit is built, what it computes, where it comes from.

    receptive_field: frames one unit sees on its input.
    """

    unit: Callable[..., nn.Module]
    formula: str
    source: str
    receptive_field: int


BLOCKS: dict[str, Family] = {
    "highway": Family(
        Highway,
        "t*ReLU(Wx) + (1-t)*x, t = sigmoid(Vx - 1)",
        "Srivastava 2015; Tacotron, Wang 2017",
        1,
    ),
    "residual": Family(
        partial(Residual, skip=True), "ReLU(x + BN(conv(ReLU(BN(conv(x))))))", "He 2015", 5
    ),
    "plain": Family(
        partial(Residual, skip=False), "ReLU(BN(conv(ReLU(BN(conv(x))))))", "He 2015", 5
    ),
}


class Chain(nn.Module):
    """Units one after another: x (B, T, C), mask (B, T) -> (B, T, C). Depth 0 passes x on.

    Units are shown zeros at padded frames and keep them zero.
    """

    def __init__(self, units: list[nn.Module]):
        super().__init__()
        self.units = nn.ModuleList(units)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x.masked_fill(~mask[:, :, None], 0.0)
        for unit in self.units:
            x = unit(x, mask)
        return x


def build_block(name: str, channels: int, depth: int, **options: object) -> nn.Module:
    """Build a stack of `depth` units of the family `name`, `channels` wide.

    Raises ValueError for an unknown family or an option the family does not have.
    """
    if name not in BLOCKS:
        near = get_close_matches(name, BLOCKS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"unknown block '{name}'{hint} (known: {', '.join(sorted(BLOCKS))})")
    unit = BLOCKS[name].unit
    known = [
        option
        for option in inspect.signature(unit).parameters
        if option not in ("channels", "skip")
    ]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(
            f"block '{name}' has no option '{unknown[0]}' (it has: {', '.join(known) or 'none'})"
        )
    return Chain([unit(channels, **options) for _ in range(depth)])
