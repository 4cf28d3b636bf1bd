"""What a trained network loses without one of its units.

After Veit, Wilber and Belongie (2016, "Residual networks behave like ensembles of relatively
shallow networks", section 4.1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tacoskip.blocks.unit import BaseUnit
from tacoskip.probes.stacks import hooked, stacks

# Units of a place that are dropped, spread evenly over its depth where it has more.
DROPPED = 16


@dataclass(frozen=True)
class Lesions:
    """Rise of the loss without each unit.

    loss: of the whole network. increase: by place and unit; None where the unit was not dropped,
    `left_out` gives the reason by place.
    """

    loss: float
    increase: dict[str, list[float | None]]
    left_out: dict[str, str]


@torch.no_grad()
def lesions(model: nn.Module, losses: Sequence[Callable[[], Tensor]]) -> Lesions:
    """Drop one unit after the other in evaluation mode, and measure the loss.

    A dropped unit returns its input, through what follows its join (a ReLU); a unit of `dense`
    returns zeros for its maps.

    Args:
        model: the trained network.
        losses: one function a batch, which computes the loss anew; their mean counts.
    """

    def mean_loss() -> float:
        return float(torch.stack([loss() for loss in losses]).mean())

    increase, left_out = dict[str, list[float | None]](), dict[str, str]()
    whole = mean_loss()
    for place, stack in stacks(model).items():
        increase[place] = [None] * len(stack.units)
        candidates = [n for n, unit in enumerate(stack.units) if not unit.changes_width]
        chosen = spread(candidates, DROPPED)
        reasons = []
        if len(candidates) < len(stack.units):
            reasons.append("units that change the width cannot be dropped")
        if len(chosen) < len(candidates):
            reasons.append(f"{len(chosen)} of {len(candidates)} units, spread evenly")
        if reasons:
            left_out[place] = "; ".join(reasons)
        for number in chosen:
            with hooked([stack.units[number].register_forward_hook(_bypass)]):
                increase[place][number] = mean_loss() - whole
    return Lesions(whole, increase, left_out)


def spread(among: Sequence[int], most: int) -> list[int]:
    """Return `most` of some numbers, evenly spread, the first and the last among them."""
    if len(among) <= most:
        return list(among)
    return [among[round(i * (len(among) - 1) / (most - 1))] for i in range(most)]


def _bypass(unit: BaseUnit, inputs: tuple[Tensor, ...], output: Any) -> Any:
    return unit.bypass(inputs, output)
