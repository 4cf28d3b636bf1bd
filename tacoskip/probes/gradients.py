"""Gradients by depth, and along the skip against through the transform.

After Glorot and Bengio (2010, "Understanding the difficulty of training deep feedforward neural
networks") and Balduzzi et al. (2017, "The shattered gradients problem").

The probe does not change what is trained: hooks look at tensors and nodes of the graph that is
there anyway; no random number is drawn, no operation is added, no sum is made in another order.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.utils.hooks import RemovableHandle

from tacoskip.probes.stacks import ByUnit, Key, by_place, stacks

Record = Callable[..., None]  # called with a measure and the tensors whose joint norm it is


class GradientProbe:
    """Norms of the gradient in every stack, of one training step.

    gradient: at the input of each unit. gradient_transform: the part of it that came through the
    unit's transform; gradient_skip: the rest, along the skip and through its gate.
    gradient_weights: of the unit's parameters, clipped. Under fp16 all others are scaled with the
    loss.

    A unit of `reversible` has two streams: norms are over both, `gradient_skip` is what comes in
    from above. `unet` has no skip around a unit; there `long_skip` and `long_below` split the
    gradient at each output that a long skip starts from, the outermost first.
    """

    def __init__(self, model: nn.Module) -> None:
        self.stacks = stacks(model)
        self._handles: list[RemovableHandle] = []
        self._squares: dict[Key, Tensor] = {}

    def watch(self) -> None:
        """Watch the next forward and backward pass."""
        self._clear()
        for place, stack in self.stacks.items():
            for number, unit in enumerate(stack.units):
                record = partial(self._record, place, number)
                hooks = _of_streams(record) if unit.streams == 2 else [_of_unit(record)]
                for transform, hook in zip(unit.transforms, hooks, strict=False):
                    self._handles.append(transform.register_forward_hook(hook))
            for number, skip in enumerate(stack.long_skips):
                hook = _of_long_skip(partial(self._record, place, number))
                self._handles.append(skip.register_forward_hook(hook))

    def read(self) -> dict[str, ByUnit]:
        """Return the norms since `watch` by place, and stop watching."""
        for place, stack in self.stacks.items():
            for number, unit in enumerate(stack.units):
                grads = [p.grad for p in unit.parameters() if p.grad is not None]
                if grads:
                    square = nn.utils.get_total_norm(grads).square()
                    self._squares[place, "gradient_weights", number] = square
        squares = list(self._squares.values())
        values = torch.stack(squares).sqrt().tolist() if squares else []
        found = by_place(self.stacks, dict(zip(self._squares, values, strict=True)))
        self._clear()
        return found

    def _record(self, place: str, number: int, name: str, *parts: Tensor) -> None:
        squares = torch.stack([part.detach().float().square().sum() for part in parts])
        self._squares[place, name, number] = squares.sum()

    def _clear(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._squares = [], {}


def _of_unit(record: Record) -> Callable[..., None]:
    """Return a hook on the transform of y = skip(x, F(x))."""

    def split(total: Tensor, through: Tensor) -> None:
        record("gradient", total)
        record("gradient_transform", through)
        record("gradient_skip", total - through)

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], h: Tensor) -> None:
        _split_gradient(h, inputs[0], split)

    return hook


def _of_streams(record: Record) -> list[Callable[..., None]]:
    """Return hooks on F and G of y1 = x1 + F(x2), y2 = x2 + G(y1).

    Where backward rebuilds the pass, F and G run there, each with a small graph of its own: the
    streams are not seen, but what arrives at the outputs of F and G is the gradient of y1 and y2.
    """
    seen: dict[str, Tensor] = {}

    def hook_of(name: str) -> Callable[..., None]:
        def split(_: Tensor, through: Tensor) -> None:
            seen[name] = through
            if name == "f":  # backward comes to F last
                of_y1, of_y2 = seen["output_f"], seen["output_g"]
                record("gradient", of_y1, of_y2 + seen["f"])
                record("gradient_transform", seen["f"], seen["g"])
                record("gradient_skip", of_y1 - seen["g"], of_y2)
                seen.clear()

        def hook(_: nn.Module, inputs: tuple[Tensor, ...], h: Tensor) -> None:
            if _split_gradient(h, inputs[0], split):
                keep = partial(seen.__setitem__, f"output_{name}")
                h.register_hook(keep)

        return hook

    return [hook_of("f"), hook_of("g")]


def _of_long_skip(record: Record) -> Callable[..., None]:
    def split(total: Tensor, along: Tensor) -> None:
        record("long_skip", along)
        record("long_below", total - along)

    def hook(_: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> None:
        long, below, mask = inputs
        _split_gradient(y, long, split, below(long, mask))

    return hook


def _split_gradient(
    y: Tensor, x: Tensor, split: Callable[[Tensor, Tensor], None], *stop: Tensor
) -> bool:
    """Call `split` in backward with the gradient at x and its part that comes from y.

    Returns False where this pass has no gradient.
    """
    if not (torch.is_grad_enabled() and x.requires_grad and y.requires_grad):
        return False
    parts: list[Tensor] = []

    def keep(position: int, grads: tuple[Tensor | None, ...], _: Any) -> None:
        part = grads[position]
        if part is not None:
            parts.append(part)

    for node, position in reading_nodes(y, x, stop):
        node.register_hook(partial(keep, position))
    x.register_hook(lambda total: split(total, sum(parts, torch.zeros_like(total))))
    return True


def reading_nodes(y: Tensor, x: Tensor, stop: Iterable[Tensor] = ()) -> list[tuple[Node, int]]:
    """Return the nodes that read x on the way to y, each with the position of x in its inputs.

    stop: tensors behind which the search does not go.
    """
    goal = get_gradient_edge(x)
    ends = [goal.node, *(get_gradient_edge(one).node for one in stop if one.requires_grad)]
    found, todo, seen = [], [y.grad_fn] if y.grad_fn not in ends else [], set(ends)
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for position, (before, output) in enumerate(node.next_functions):
            if before is goal.node and output == goal.output_nr:
                found.append((node, position))
            todo.append(before)
    return found
