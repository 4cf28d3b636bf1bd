"""What goes on inside the stacks of a network: activations, gates, learnt weights, reuse.

A place is a CBHG by its name in the network (`encoder`, `postnet`); its units are counted from 0 at
the stack's input. Gradients are in `gradients.py`, what a whole run is studied with in
`lesions.py`.

B batch, T frames, C channels.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tacoskip.blocks.skips import Skip
from tacoskip.blocks.skips.learned import Learned
from tacoskip.blocks.topologies.dense import Dense
from tacoskip.blocks.topologies.reversible import Coupling
from tacoskip.blocks.transforms import Transform
from tacoskip.blocks.transforms.nonlocal_ import NonLocal
from tacoskip.models.cbhg import CBHG

# By name of the measure, a value for each unit of a stack; None where a unit has none.
ByUnit = dict[str, list[float | None]]


def stacks(model: nn.Module) -> dict[str, Any]:
    """The stacks of a network by place; those of depth 0 are left out."""
    found: dict[str, Any] = {
        name.removesuffix("cbhg").rstrip(".") or "cbhg": module.stack
        for name, module in model.named_modules()
        if isinstance(module, CBHG)
    }
    return {place: stack for place, stack in found.items() if len(stack.units)}


def transforms(unit: nn.Module) -> list[Transform]:
    """The transforms of a unit: one, or F and G of a reversible one."""
    inside = (unit.f, unit.g) if isinstance(unit, Coupling) else (unit,)
    found = [getattr(one, "transform", one) for one in inside]
    return [one for one in found if isinstance(one, Transform)]


class ActivationProbe:
    """What is seen while a network is judged on validation batches, by place.

    norm: root mean square of what each unit gives, over real frames (of both streams for
    `reversible`, of the new maps for `dense`); norm_before: of what the stack is given. openness:
    mean of each gate. reach: how many frames away a non-local unit reads, on average, in the first
    item; `attention` holds its (T, T) weights.
    """

    def __init__(self, model: nn.Module) -> None:
        self.stacks = stacks(model)
        self.attention: dict[str, dict[int, Tensor]] = defaultdict(dict)
        self._sums: dict[tuple[str, str, int], tuple[Tensor, int]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Listen to every pass inside."""
        handles = []
        for place, stack in self.stacks.items():
            handles.append(stack.register_forward_pre_hook(self._before(place)))
            for number, unit in enumerate(stack.units):
                handles.append(unit.register_forward_hook(self._after(place, number)))
                skip = getattr(unit, "skip", None)
                if isinstance(skip, Skip) and hasattr(skip, "openness"):
                    handles.append(skip.register_forward_hook(self._gate(place, number)))
                for transform in transforms(unit):
                    if isinstance(transform, NonLocal):
                        hook = self._attention(place, number)
                        handles.append(transform.register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def read(self) -> dict[str, ByUnit]:
        """The means over all passes."""
        found: dict[str, ByUnit] = {place: {} for place in self.stacks}
        for (place, name, number), (total, count) in self._sums.items():
            mean = float(total) / count
            length = 1 if name == "norm_before" else len(self.stacks[place].units)
            values = found[place].setdefault(name, [None] * length)
            values[number] = mean**0.5 if name.startswith("norm") else mean
        for place, maps in self.attention.items():
            far = found[place].setdefault("reach", [None] * len(self.stacks[place].units))
            for number, weights in maps.items():
                far[number] = _reach(weights)
        return found

    def _add(self, key: tuple[str, str, int], total: Tensor, count: int = 1) -> None:
        before, n = self._sums.get(key, (torch.zeros(()), 0))
        self._sums[key] = before.to(total) + total.detach(), n + count

    def _squares(self, key: tuple[str, str, int], xs: Iterable[Tensor], mask: Tensor) -> None:
        for x in xs:
            real = x.detach().float().masked_fill(~mask[:, :, None], 0.0)
            self._add(key, real.square().sum(), int(mask.sum()) * x.shape[2])

    def _before(self, place: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._squares((place, "norm_before", 0), inputs[:1], inputs[1])

        return hook

    def _after(self, place: str, number: int) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], y: Tensor | tuple[Tensor, ...]) -> None:
            given = (y,) if isinstance(y, Tensor) else y
            self._squares((place, "norm", number), given, inputs[-1])

        return hook

    def _gate(self, place: str, number: int) -> Callable[..., None]:
        def hook(skip: Any, inputs: tuple[Any, ...], _: Tensor) -> None:
            self._add((place, "openness", number), skip.openness(inputs[0], inputs[2]))

        return hook

    def _attention(self, place: str, number: int) -> Callable[..., None]:
        def hook(transform: NonLocal, inputs: tuple[Tensor, Tensor], _: Tensor) -> None:
            if number not in self.attention[place]:
                x, mask = inputs[0][:1], inputs[1][:1]
                frames = int(mask.sum())
                weights = transform.weights(x, mask)[0, :frames, :frames]
                self.attention[place][number] = weights.detach().float().cpu()

        return hook


def _reach(weights: Tensor) -> float:
    """Mean distance in frames that (T, T) weights read over."""
    steps = torch.arange(len(weights))
    size = weights.abs()
    far = (size * (steps - steps[:, None]).abs()).sum(1) / size.sum(1).clamp(min=1e-12)
    return float(far.mean())


def alphas(model: nn.Module) -> dict[str, ByUnit]:
    """Learnt weights of skips: the value, or mean, least and greatest over channels."""
    found: dict[str, ByUnit] = {}
    for place, stack in stacks(model).items():
        for number, unit in enumerate(stack.units):
            skip = getattr(unit, "skip", None)
            if isinstance(skip, Learned):
                alpha = skip.alpha.detach()
                seen = {"alpha": alpha.mean()}
                if len(alpha) > 1:
                    seen |= {"alpha_min": alpha.min(), "alpha_max": alpha.max()}
                for name, value in seen.items():
                    values = found.setdefault(place, {}).setdefault(name, [None] * len(stack.units))
                    values[number] = float(value)
    return found


def reuse(stack: nn.Module) -> list[list[list[float]]]:
    """How much each unit of a dense stack reads of each earlier one (DenseNet, figure 5).

    Mean |weight| of its first layer over the channels that one source gave. A (readers, sources)
    table a stage, shorter rows for earlier readers: sources are the stage's input and its units,
    readers its units and the transition behind them. Empty for other topologies.
    """
    tables: list[list[list[float]]] = []
    if not isinstance(stack, Dense):
        return tables
    rows: list[Tensor] = []
    for number, unit in enumerate(stack.units):
        rows.append(_weight_by_channel(unit))
        if str(number) in stack.transitions:
            rows.append(_weight_by_channel(stack.transitions[str(number)]))
            ends = [len(row) for row in rows]  # each reader sees one source more than the last
            tables.append(
                [
                    [
                        float(row[start:end].mean())
                        for start, end in zip([0, *ends], ends, strict=False)
                        if end <= len(row)
                    ]
                    for row in rows
                ]
            )
            rows = []
    return tables


def _weight_by_channel(module: nn.Module) -> Tensor:
    """Mean |weight| of a module's first layer for each channel that it reads: (in,)."""
    layer = next(m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Linear))
    weight = layer.weight.detach().abs().float()  # (out, in / groups[, kernel])
    groups = layer.groups if isinstance(layer, nn.Conv1d) else 1
    return (
        weight.flatten(1)
        .view(groups, -1, weight.shape[1], weight[0, 0].numel())
        .mean((1, 3))
        .flatten()
    )
