"""A reversible stack whose activations are rebuilt in backward (Gomez et al. 2017).

Memory does not grow with depth. The gradients are those of the plain stack, to the bit: random
numbers and autocast are as they were in forward, and batch statistics are not counted twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tacoskip.blocks.topologies.reversible import Coupling, Reversible, branch
from tacoskip.blocks.transforms.base import Transform
from tacoskip.kernels.table import Replacement


class RebuiltReversible(Reversible):
    """Activations rebuilt in backward: memory that does not grow with depth."""

    def couple(self, x1: Tensor, x2: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if not (torch.is_grad_enabled() and len(self.units)):
            return super().couple(x1, x2, mask)
        return _Rebuilt.apply(x1, x2, mask, self.units, *self.parameters())


class _Rebuilt(torch.autograd.Function):
    """All couplings at once. Parameters are arguments, so that DDP sees their gradients arrive."""

    @staticmethod
    def forward(
        ctx: Any, x1: Tensor, x2: Tensor, mask: Tensor, units: list[Coupling], *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        kind = x1.device.type
        # Without a cache: older releases return the casts that forward made without a gradient
        # (pytorch 165068).
        ctx.autocast = {
            "device_type": kind,
            "dtype": torch.get_autocast_dtype(kind),
            "enabled": torch.is_autocast_enabled(kind),
            "cache_enabled": False,
        }
        ctx.units, ctx.random = units, []
        random_g = list[Tensor]()
        for unit in units:
            random_f = _random_state(x1.device, random_g)
            x1 = x1 + branch(unit.f, x2, mask)
            random_g = _random_state(x1.device, random_f)
            x2 = x2 + branch(unit.g, x1, mask)
            ctx.random.append((random_f, random_g))
        ctx.save_for_backward(x1, x2, mask)
        return x1, x2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y1, y2, mask = ctx.saved_tensors
        d1, d2 = grads
        of_parameters: list[Tensor | None] = []
        for unit, (random_f, random_g) in zip(
            reversed(ctx.units), reversed(ctx.random), strict=True
        ):
            x2, d1, of_g = _undo(unit.g, (y1, y2), (d1, d2), mask, ctx.autocast, random_g)
            x1, d2, of_f = _undo(unit.f, (x2, y1), (d2, d1), mask, ctx.autocast, random_f)
            of_parameters = [*of_f, *of_g, *of_parameters]
            y1, y2 = x1, x2
        return d1, d2, None, None, *of_parameters


def _undo(
    transform: Transform,
    streams: tuple[Tensor, Tensor],
    grads: tuple[Tensor, Tensor],
    mask: Tensor,
    autocast: dict[str, Any],
    random: list[Tensor],
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Take y = before + transform(x) back, with autocast and generators as they were before it.

    streams: x and y. grads: of x, without its part through the transform, and of y. Returns before,
    the whole gradient of x, and those of the transform's parameters, None for one that is frozen.
    """
    trained = [p for p in transform.parameters() if p.requires_grad]
    x, y = streams[0].detach().requires_grad_(), streams[1]
    with (
        torch.random.fork_rng(devices=[x.device] if x.is_cuda else []),
        torch.autocast(**autocast),
        _frozen_statistics(transform),
        torch.enable_grad(),
    ):
        torch.set_rng_state(random[0])
        for state in random[1:]:
            torch.cuda.set_rng_state(state, x.device)
        h = branch(transform, x, mask)
    through, *rest = torch.autograd.grad(h, [x, *trained], grads[1], allow_unused=True)
    by_parameter = dict(zip(trained, rest, strict=True))
    of_parameters = [by_parameter.get(p) for p in transform.parameters()]
    return y - h.detach(), grads[0] + through, of_parameters


def _random_state(device: torch.device, before: list[Tensor]) -> list[Tensor]:
    """Return the state of the generators: `before` itself, kept once, where nothing was drawn."""
    now = [torch.get_rng_state()]
    if device.type == "cuda":
        now.append(torch.cuda.get_rng_state(device))
    return before if before and all(map(torch.equal, before, now)) else now


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch normalisation use the batch, and leave its running statistics alone."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.training and norm.num_batches_tracked is not None:
                norm.num_batches_tracked -= 1


REBUILT = Replacement(Reversible, RebuiltReversible)
