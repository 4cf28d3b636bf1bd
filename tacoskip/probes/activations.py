"""Norms of activations by depth: how much the signal grows in a stack.

norm_before: root mean square of what the stack is given, over real frames. norm: of what each unit
returns (`reversible`: of both streams; `dense`: of the new maps). On the growth of residual streams
see De and Smith (2020, "Batch normalization biases residual blocks towards the identity function in
deep networks").
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tacoskip.probes.stacks import Key, Probe


class ActivationProbe(Probe):
    """Norms over all passes."""

    def hooks(self) -> Iterator[RemovableHandle]:
        for place, stack in self.stacks.items():
            yield stack.register_forward_pre_hook(partial(self._see, (place, "norm_before", 0)))
            for number, unit in enumerate(stack.units):
                yield unit.register_forward_hook(partial(self._see, (place, "norm", number)))

    def means(self) -> dict[Key, float]:
        return {key: mean**0.5 for key, mean in super().means().items()}

    def _see(self, key: Key, _: nn.Module, inputs: tuple[Tensor, ...], output: Any = None) -> None:
        seen = inputs[0] if output is None else output
        mask = inputs[-1]
        for x in (seen,) if isinstance(seen, Tensor) else seen:
            real = x.detach().float().masked_fill(~mask[:, :, None], 0.0)
            self.add(key, real.square().sum(), int(mask.sum()) * x.shape[2])
