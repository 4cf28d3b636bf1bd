"""What a trained network loses without one of its units.

After Veit, Wilber and Belongie (2016, "Residual networks behave like ensembles of relatively
shallow networks", section 4.1).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tacoskip.probes.stacks import stacks

# Units of a place that are dropped, spread evenly over its depth where it has more.
DROPPED = 16


@torch.no_grad()
def lesions(
    model: nn.Module, losses: Sequence[Callable[[], Tensor]]
) -> dict[str, list[float | None]]:
    """Drop one unit after the other in evaluation mode; return by how much the loss rises.

    A dropped unit returns its input, through what follows its join (a ReLU); a unit of `dense`
    returns zeros for its maps. A unit that changes the width cannot be dropped: None.

    Args:
        model: the trained network.
        losses: one function a batch, which computes the loss anew; their mean counts.
    """

    def mean_loss() -> float:
        return float(torch.stack([loss() for loss in losses]).mean())

    increase, whole = dict[str, list[float | None]](), mean_loss()
    for place, stack in stacks(model).items():
        increase[place] = [None] * len(stack.units)
        candidates = [n for n, unit in enumerate(stack.units) if not unit.changes_width]
        spread = np.linspace(0, len(candidates) - 1, min(DROPPED, len(candidates)))
        for number in (candidates[round(i)] for i in spread):
            unit = stack.units[number]
            with unit.register_forward_hook(lambda unit, *passed: unit.bypass(*passed)):
                increase[place][number] = mean_loss() - whole
    return increase
