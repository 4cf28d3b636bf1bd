"""L1 norms of frames' differences, and their signs for the gradient, in one pass.

Shapes: B batch, T frames, C channels.
"""

from typing import Any

import torch
from torch import Tensor

from tacoskip.kernels.cpu.networks import Argument, call, has_kernels, operator

FIELDS = ("rows", "channels", "x", "target", "norms", "signs")


def _forward(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Norms (B, T) in float32 of x - target, and its signs (B, T, C), 0 where it is NaN."""
    norms, signs = target.new_empty(x.shape[:2]), torch.empty_like(x)
    inputs: dict[str, Argument] = {"rows": norms.numel(), "channels": x.shape[2]}
    inputs |= {"x": x, "target": target}
    call("l1_forward", x.dtype, FIELDS, inputs, {"norms": norms, "signs": signs})
    return norms, signs


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1])


def _backward(ctx: Any, d_norms: Tensor, *_: None) -> tuple[Tensor, None]:
    (signs,) = ctx.saved_tensors
    return signs * d_norms[:, :, None].to(signs.dtype), None


l1 = operator("l1", _forward, _save, _backward)


def l1_norms(x: Tensor, target: Tensor) -> Tensor:
    """Sums (B, T) of |x - target| over channels: both (B, T, C), target without a gradient."""
    if x.device.type == "cpu" and target.dtype == torch.float32 and has_kernels(x.dtype):
        norms: Tensor = l1(x.contiguous(), target.contiguous())[0]
        return norms
    return torch.linalg.vector_norm(x - target, 1, dim=2)
