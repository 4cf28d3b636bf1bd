"""Gradients by depth, and along the skip against along the transform.

Nothing here changes what is trained: hooks look at tensors and nodes of the graph that is there
anyway; no random number is drawn, no operation is added, no sum is made in another order.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.utils.hooks import RemovableHandle

from tacoskip.blocks.topologies.reversible import Coupling
from tacoskip.blocks.topologies.unet import UNet
from tacoskip.probes.activations import ByUnit, stacks, transforms


def readers(y: Tensor, x: Tensor, stop: Iterable[Tensor] = ()) -> list[tuple[Node, int]]:
    """The nodes that read x on the way to y, each with which of its inputs x is.

    stop: other tensors behind which not to look.
    """
    goal = get_gradient_edge(x)
    ends = [goal.node, *(get_gradient_edge(one).node for one in stop if one.requires_grad)]
    found, todo, seen = [], [y.grad_fn] if y.grad_fn not in ends else [], set(ends)
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for place, (before, output) in enumerate(node.next_functions):
            if before is goal.node and output == goal.output_nr:
                found.append((node, place))
            todo.append(before)
    return found


class GradientProbe:
    """Norms of the gradient in every stack, of one training step.

    gradient: at the input of each unit. gradient_transform: the part of it that came through the
    unit's transform; gradient_skip: the rest, along the skip and through its gate. Both may be
    longer than their sum. gradient_weights: of the unit's parameters, as the optimizer sees them
    (clipped).

    A unit of `reversible` has two streams: norms are over both, `gradient_skip` is what comes in
    from above. `unet` has no skip around a unit; there `long_skip` and `long_below` split the
    gradient at each map that a long skip starts from, the outermost first. Under fp16 all but
    gradient_weights is scaled with the loss.
    """

    def __init__(self, model: nn.Module) -> None:
        self.stacks = stacks(model)
        self._handles: list[RemovableHandle] = []
        self._squares: dict[tuple[str, str, int], Tensor] = {}

    def watch(self) -> None:
        """Listen to the next forward and backward pass."""
        self._forget()
        for place, stack in self.stacks.items():
            for number, unit in enumerate(stack.units):
                keep = self._keeper(place, number)
                if isinstance(unit, Coupling):
                    hooks = zip((unit.f, unit.g), _coupled(keep), strict=True)
                else:
                    hooks = zip(transforms(unit), [_single(keep)], strict=False)
                self._handles += [one.register_forward_hook(hook) for one, hook in hooks]
            if isinstance(stack, UNet):
                for number, join in enumerate(stack.joins):
                    hook = _long(self._keeper(place, number))
                    self._handles.append(join.register_forward_hook(hook))

    def read(self) -> dict[str, ByUnit]:
        """What was heard since `watch`, by place."""
        for place, stack in self.stacks.items():
            for number, unit in enumerate(stack.units):
                grads = [p.grad for p in unit.parameters() if p.grad is not None]
                if grads:
                    norms = torch.stack(torch._foreach_norm(grads))
                    self._squares[place, "gradient_weights", number] = norms.square().sum()
        heard = list(self._squares.values())
        norms_found = torch.stack(heard).sqrt().tolist() if heard else []
        found: dict[str, ByUnit] = {place: {} for place in self.stacks}
        for (place, name, number), norm in zip(self._squares, norms_found, strict=True):
            stack = self.stacks[place]
            length = len(stack.joins if name.startswith("long") else stack.units)
            found[place].setdefault(name, [None] * length)[number] = norm
        self._forget()
        return found

    def _keeper(self, place: str, number: int) -> "Keep":
        def keep(name: str, *parts: Tensor) -> None:
            squares = torch.stack([part.detach().float().square().sum() for part in parts])
            self._squares[place, name, number] = squares.sum()

        return keep

    def _forget(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._squares = [], {}


Keep = Callable[..., None]


def _listens(x: Tensor, y: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad and y.requires_grad


def _split(y: Tensor, x: Tensor, tell: Callable[[Tensor, Tensor], None], *stop: Tensor) -> None:
    """Tell the whole gradient at x, and its part that comes from y, once backward has made them."""
    parts: list[Tensor] = []

    def hear(place: int) -> Callable[..., None]:
        def hook(grads: tuple[Tensor | None, ...], _: Any) -> None:
            part = grads[place]
            if part is not None:
                parts.append(part)

        return hook

    for node, place in readers(y, x, stop):
        node.register_hook(hear(place))

    def whole(total: Tensor) -> None:
        tell(total, sum(parts, torch.zeros_like(total)))

    x.register_hook(whole)


def _single(keep: Keep) -> Callable[..., None]:
    def tell(total: Tensor, through: Tensor) -> None:
        keep("gradient", total)
        keep("gradient_transform", through)
        keep("gradient_skip", total - through)

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], h: Tensor) -> None:
        if _listens(inputs[0], h):
            _split(h, inputs[0], tell)

    return hook


def _coupled(keep: Keep) -> list[Callable[..., None]]:
    """Hooks on F and G of y1 = x1 + F(x2), y2 = x2 + G(y1).

    Where the pass is rebuilt in backward, F and G run there, each with its own small graph: the
    streams are not seen, but what arrives at the outputs of F and G is the gradient of y1 and y2.
    """
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def through(_: Tensor, part: Tensor) -> None:
            seen[name] = part
            if name == "f":  # backward comes to F last
                of_y1, of_y2 = seen["out_f"], seen["out_g"]
                keep("gradient", of_y1, of_y2 + seen["f"])
                keep("gradient_transform", seen["f"], seen["g"])
                keep("gradient_skip", of_y1 - seen["g"], of_y2)
                seen.clear()

        def forward(_: nn.Module, inputs: tuple[Tensor, ...], h: Tensor) -> None:
            if _listens(inputs[0], h):
                h.register_hook(lambda grad: seen.update({f"out_{name}": grad}))
                _split(h, inputs[0], through)

        return forward

    return [hook("f"), hook("g")]


def _long(keep: Keep) -> Callable[..., None]:
    def tell(total: Tensor, along: Tensor) -> None:
        keep("long_skip", along)
        keep("long_below", total - along)

    def hook(_: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> None:
        long, below, mask = inputs
        if _listens(long, y):
            _split(y, long, tell, below(long, mask))

    return hook
