"""Hard gates over a whole network: what they cost in training, what they save when it is over."""

import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.deactivable import Deactivable
from tacoskip.blocks.skips.dynamic import Dynamic
from tacoskip.blocks.unit import Unit


class Passed(nn.Module):
    """What a closed unit still does: after(x), the ReLU behind its join."""

    def __init__(self, after: nn.Module):
        super().__init__()
        self.after = after

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = self.after(x)
        return y


def sparsity(model: nn.Module) -> Tensor | None:
    """Mean price of the last training pass over all hard gates, or None where there are none.

    Prices are handed out once: they hold on to that pass, which would keep its memory and let no
    copy be made of the network.
    """
    found = []
    for gate in (m for m in model.modules() if isinstance(m, Dynamic | Deactivable)):
        if gate.price is not None:
            found.append(gate.price)
            gate.price = None
    return torch.stack(found).mean() if found else None


def prune(model: nn.Module) -> int:
    """Take closed deactivable units out of `model`, in place; returns how many.

    The output in evaluation stays the same. Not for a network that goes on learning: what was taken
    out cannot open again.
    """
    removed = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if (
                isinstance(child, Unit)
                and isinstance(child.skip, Deactivable)
                and child.skip.closed
            ):
                setattr(parent, name, Passed(child.transform.after))
                removed += 1
    return removed
