"""Hard gates of a network: their price in training, and taking closed units out afterwards."""

import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.unit import PrunedUnit, Unit


def sparsity(model: nn.Module) -> Tensor | None:
    """Return the mean price of the last training pass over all hard gates; None: there are none.

    A price is handed out once: it keeps the graph of its pass, whose memory would not be freed and
    which no copy of the network could hold.
    """
    prices = []
    for skip in model.modules():
        if isinstance(skip, Skip) and skip.price is not None:
            prices.append(skip.price)
            skip.price = None
    return torch.stack(prices).mean() if prices else None


def prune(model: nn.Module) -> int:
    """Take closed units out of `model`, in place; return how many.

    The output in evaluation stays the same. Not for a network that trains on: what is taken out
    cannot open again.
    """
    removed = 0
    for parent in list(model.modules()):
        for name, unit in list(parent.named_children()):
            if isinstance(unit, Unit) and unit.skip.closed:
                setattr(parent, name, PrunedUnit(unit.transform.after))
                removed += 1
    return removed
