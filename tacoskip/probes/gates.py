"""Gates and learned weights by depth: how much of its transform each unit uses.

openness: mean of each gate over real frames (Srivastava, Greff and Schmidhuber 2015, "Training very
deep networks"). alpha: the learned weight of a skip (Bachlechner et al. 2021, "ReZero is all you
need"); its mean, least and greatest where each channel has one.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tacoskip.blocks import Skip
from tacoskip.probes.stacks import ByUnit, Key, Probe, by_place, stacks


class GateProbe(Probe):
    """Openness over all passes."""

    def hooks(self) -> Iterator[RemovableHandle]:
        for place, stack in self.stacks.items():
            for number, unit in enumerate(stack.units):
                if unit.skip is not None:
                    see = partial(self._see, (place, "openness", number))
                    yield unit.skip.register_forward_hook(see)

    def _see(self, key: Key, skip: Skip, inputs: tuple[Any, ...], _: Tensor) -> None:
        x, _transform, mask = inputs
        openness = skip.openness(x, mask)
        if openness is not None:
            self.add(key, openness)


def learned_weights(model: nn.Module) -> dict[str, ByUnit]:
    """Return alpha by place, and alpha_min and alpha_max where each channel has one."""
    found, values = stacks(model), dict[Key, float]()
    for place, stack in found.items():
        for number, unit in enumerate(stack.units):
            weight = unit.skip.learned_weight() if unit.skip is not None else None
            if weight is not None:
                values[place, "alpha", number] = float(weight.detach().mean())
                if len(weight) > 1:
                    values[place, "alpha_min", number] = float(weight.detach().min())
                    values[place, "alpha_max", number] = float(weight.detach().max())
    return by_place(found, values)
