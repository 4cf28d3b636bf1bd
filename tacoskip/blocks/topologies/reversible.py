"""Two streams that can be rebuilt from what they became (RevNet, Gomez et al. 2017).

    y1 = x1 + F(x2),   y2 = x2 + G(y1)         and back:   x2 = y2 - G(y1),   x1 = y1 - F(x2)

x1 and x2 are the halves of the channels. Backward rebuilds every activation from the outputs, so
that memory does not grow with depth. Random numbers and autocast are as they were, batch statistics
are not counted twice. In single precision a stream taken back differs in its last bits, which turns
a ReLU here and a rounding to bfloat16 there, so the streams are summed in double precision; the
transforms read and give what they always do. Departures: that; time instead of image; what a
transform wants after its join (a ReLU) is left out, for it could not be undone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tacoskip.blocks.recorded import is_recorded
from tacoskip.blocks.topologies.chain import MakeSkip, MakeTransform


class Coupling(nn.Module):
    """F and G of one unit, each C/2 -> C/2."""

    def __init__(self, f: nn.Module, g: nn.Module):
        super().__init__()
        self.f, self.g = f, g

    def forward(self, x1: Tensor, x2: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        y1 = x1 + _branch(self.f, x2, mask)
        return y1, x2 + _branch(self.g, y1, mask)


def _branch(transform: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """The transform of a stream, read in the precision of its weights, given in the stream's."""
    h = transform(x.to(next(transform.parameters(), x).dtype), mask)
    return h.to(x.dtype).masked_fill(~mask[:, :, None], 0.0)


def _exact(x: Tensor) -> Tensor:
    """X in double precision, where the device has it."""
    return x if x.device.type == "mps" else x.double()


class Reversible(nn.Module):
    """x (B, T, C), mask (B, T) -> (B, T, C). Depth 0 passes x on.

    rebuild: False keeps all activations, for comparison. Raises ValueError for an odd C.
    """

    def __init__(
        self,
        channels: int,
        depth: int,
        make_transform: MakeTransform,
        make_skip: MakeSkip,
        rebuild: bool = True,
    ):
        super().__init__()
        if channels % 2:
            raise ValueError(f"reversible expects an even width to halve, got {channels}")
        half = channels // 2
        self.rebuild = rebuild
        self.units = nn.ModuleList(
            Coupling(make_transform(half, half), make_transform(half, half)) for _ in range(depth)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x1, x2 = _exact(x.masked_fill(~mask[:, :, None], 0.0)).chunk(2, dim=2)
        rebuild = self.rebuild and torch.is_grad_enabled() and not is_recorded()
        if rebuild and len(self.units):
            x1, x2 = _Rebuilt.apply(x1, x2, mask, self.units, *self.units.parameters())
        else:
            for unit in self.units:
                x1, x2 = unit(x1, x2, mask)
        return torch.cat([x1, x2], 2).to(x.dtype)


class _Rebuilt(torch.autograd.Function):
    """All couplings at once. Parameters are arguments, so that whoever watches their gradients
    (DDP) sees them arrive.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x1: Tensor,
        x2: Tensor,
        mask: Tensor,
        units: nn.ModuleList,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        kind = x1.device.type
        # Without a cache: older releases hand out the casts that forward made without gradient
        # (pytorch 165068).
        ctx.autocast = {
            "device_type": kind,
            "dtype": torch.get_autocast_dtype(kind),
            "enabled": torch.is_autocast_enabled(kind),
            "cache_enabled": False,
        }
        ctx.units, ctx.random = units, []
        random_g = None
        for unit in units:
            assert isinstance(unit, Coupling)
            random_f = _random_state(x1.device, random_g)
            x1 = x1 + _branch(unit.f, x2, mask)
            random_g = _random_state(x1.device, random_f)
            x2 = x2 + _branch(unit.g, x1, mask)
            ctx.random.append((random_f, random_g))
        ctx.save_for_backward(x1, x2, mask)
        return x1, x2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y1, y2, mask = ctx.saved_tensors
        d1, d2 = grads
        found: list[Tensor | None] = []
        for unit, (random_f, random_g) in zip(
            reversed(ctx.units), reversed(ctx.random), strict=True
        ):
            x2, d1, of_g = _undo(unit.g, y1, y2, d1, d2, mask, ctx, random_g)
            x1, d2, of_f = _undo(unit.f, x2, y1, d2, d1, mask, ctx, random_f)
            found = [*of_f, *of_g, *found]
            y1, y2 = x1, x2
        return d1, d2, None, None, *found


def _undo(
    transform: nn.Module,
    x: Tensor,
    y: Tensor,
    d_x: Tensor,
    d_y: Tensor,
    mask: Tensor,
    ctx: Any,
    random: "RandomState",
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Take y = before + transform(x) back: before, the gradient of x with its part through the
    transform, and the gradients of the transform's parameters, None for one that is frozen.
    """
    learnt = [p for p in transform.parameters() if p.requires_grad]
    x = x.detach().requires_grad_()
    devices = [x.device] if x.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.autocast(**ctx.autocast),
        _statistics_at_rest(transform),
        torch.enable_grad(),
    ):
        _set_random_state(random, x.device)
        h = _branch(transform, x, mask)
    through, *grads = torch.autograd.grad(h, [x, *learnt], d_y, allow_unused=True)
    found = dict(zip(learnt, grads, strict=True))
    return y - h.detach(), d_x + through, [found.get(p) for p in transform.parameters()]


RandomState = tuple[Tensor, Tensor | None]


def _random_state(device: torch.device, before: RandomState | None) -> RandomState:
    """Where the generators stand; `before` itself, kept once, where nothing was drawn since."""
    on_cuda = device.type == "cuda"
    now = torch.get_rng_state(), torch.cuda.get_rng_state(device) if on_cuda else None
    if before is None or not torch.equal(before[0], now[0]):
        return now
    if before[1] is not None and now[1] is not None and not torch.equal(before[1], now[1]):
        return now
    return before


def _set_random_state(state: RandomState, device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)


@contextmanager
def _statistics_at_rest(module: nn.Module) -> Iterator[None]:
    """Batch normalisation that normalises as in training and counts nothing."""
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
