"""Which frames an attention inside a stack reads (Wang et al. 2018, "Non-local neural networks").

maps: the weights (T, T) of each unit with an attention, for the first item of the first pass.
reach: how many frames away these weights read, on average.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tacoskip.blocks import Transform
from tacoskip.probes.stacks import Probe


class AttentionProbe(Probe):
    """Attention in the first pass: `maps` by place and unit."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.maps: dict[str, dict[int, Tensor]] = defaultdict(dict)

    def hooks(self) -> Iterator[RemovableHandle]:
        for place, stack in self.stacks.items():
            for number, unit in enumerate(stack.units):
                for transform in unit.transforms:
                    yield transform.register_forward_hook(partial(self._see, place, number))

    def _see(
        self,
        place: str,
        number: int,
        transform: Transform,
        inputs: tuple[Tensor, Tensor],
        _: Tensor,
    ) -> None:
        if number in self.maps[place]:
            return
        x, mask = inputs[0][:1], inputs[1][:1]
        weights = transform.attention(x, mask)
        if weights is not None:
            frames = int(mask.sum())
            self.maps[place][number] = weights[0, :frames, :frames].detach().float().cpu()
            self.add((place, "reach", number), reach(self.maps[place][number]))


def reach(weights: Tensor) -> Tensor:
    """Return the mean distance in frames that weights (T, T) read over."""
    frames = torch.arange(len(weights))
    size = weights.abs()
    distance = (size * (frames - frames[:, None]).abs()).sum(1) / size.sum(1).clamp(min=1e-12)
    return distance.mean()
