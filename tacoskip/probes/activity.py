"""What a stack does in forward passes: norms, gates, and which frames an attention reads.

norm_before: root mean square of what the stack is given, over real frames. norm: of what each unit
returns (`reversible`: of both streams; `dense`: of the new maps). On the growth of residual streams
see De and Smith (2020, "Batch normalization biases residual blocks towards the identity function in
deep networks"). openness: mean of each gate over real frames (Srivastava, Greff and Schmidhuber
2015, "Training very deep networks"). reach: how many frames away an attention in a transform reads,
on average (Wang et al. 2018, "Non-local neural networks").
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tacoskip.blocks import Skip, Transform
from tacoskip.probes.stacks import ByUnit, Key, by_place, stacks


class ActivityProbe:
    """Means over all passes inside `with probe.watching():`.

    maps: by place and unit, the weights (T, T) of its attention for the first item of the first
    pass.
    """

    def __init__(self, model: nn.Module) -> None:
        self.stacks = stacks(model)
        self.maps: dict[str, dict[int, Tensor]] = defaultdict(dict)
        self._sums: dict[Key, tuple[Tensor, int]] = {}

    def watching(self) -> ExitStack:
        """Watch every pass inside."""
        hooks = ExitStack()
        for handle in self._hooks():
            hooks.enter_context(handle)
        return hooks

    def read(self) -> dict[str, ByUnit]:
        """Return the means so far by place."""
        means = {key: float(total) / count for key, (total, count) in self._sums.items()}
        squares = ("norm", "norm_before")
        return by_place(
            self.stacks, {k: v**0.5 if k[1] in squares else v for k, v in means.items()}
        )

    def _hooks(self) -> Iterator[RemovableHandle]:
        for place, stack in self.stacks.items():
            yield stack.register_forward_pre_hook(partial(self._norm, (place, "norm_before", 0)))
            for number, unit in enumerate(stack.units):
                yield unit.register_forward_hook(partial(self._norm, (place, "norm", number)))
                if unit.skip is not None:
                    key = place, "openness", number
                    yield unit.skip.register_forward_hook(partial(self._openness, key))
                for transform in unit.transforms:
                    yield transform.register_forward_hook(partial(self._attention, place, number))

    def _norm(self, key: Key, _: nn.Module, inputs: tuple[Tensor, ...], output: Any = None) -> None:
        seen = inputs[0] if output is None else output
        mask = inputs[-1]
        for x in (seen,) if isinstance(seen, Tensor) else seen:
            real = x.detach().float().masked_fill(~mask[:, :, None], 0.0)
            self._add(key, real.square().sum(), int(mask.sum()) * x.shape[2])

    def _openness(self, key: Key, skip: Skip, inputs: tuple[Any, ...], _: Tensor) -> None:
        x, _transform, mask = inputs
        openness = skip.openness(x, mask)
        if openness is not None:
            self._add(key, openness)

    def _attention(
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
            self._add((place, "reach", number), reach(self.maps[place][number]))

    def _add(self, key: Key, total: Tensor, count: int = 1) -> None:
        before, n = self._sums.get(key, (torch.zeros(()), 0))
        self._sums[key] = before.to(total) + total.detach(), n + count


def reach(weights: Tensor) -> Tensor:
    """Return the mean distance in frames that weights (T, T) read over."""
    frames = torch.arange(len(weights))
    size = weights.abs()
    distance = (size * (frames - frames[:, None]).abs()).sum(1) / size.sum(1).clamp(min=1e-12)
    return distance.mean()
