"""Matrix products of training on a CPU, by the faster of the two libraries torch carries.

Torch sends float32 products to MKL, which uses half of what a processor can do where it is not
Intel's own; oneDNN, which torch sends convolutions to, uses more of it
(`benchmarks/speed_products.py`). On an AMD processor float32 products go there; elsewhere, and in
any other precision, these functions are torch's own.

N rows, K summed, M columns.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tacoskip.blocks.layers import is_recorded


@cache
def _mkl_holds_back() -> bool:
    """Whether this processor is AMD's and torch lets oneDNN be called."""
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkl.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def by_onednn(x: Tensor) -> bool:
    """Whether `product` gives x to oneDNN."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and _mkl_holds_back()


def product(a: Tensor, b: Tensor) -> Tensor:
    """The product of a (N, K) and b (M, K) transposed, (N, M); where no gradient is recorded."""
    if by_onednn(a):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(a), _dense(b), None, "none", [], "")
        return out
    return a @ b.t()


def _dense(x: Tensor) -> Tensor:
    """A matrix without gaps: for others oneDNN has only its reference, hundreds of times slower."""
    return x if x.is_contiguous() or x.t().is_contiguous() else x.contiguous()


def outer(grads: Tensor, inputs: Tensor) -> Tensor:
    """Gradient (M, K) of weights from grads (N, M) and inputs (N, K)."""
    return product(inputs.t(), grads.t()).t()


class Linear(nn.Linear):
    """nn.Linear: x (..., K) -> (..., M)."""

    def forward(self, x: Tensor) -> Tensor:
        # What counts multiply-adds, and what writes a network down, knows torch's own only.
        plain = not torch.is_grad_enabled() or is_recorded() or torch.is_autocast_enabled("cpu")
        if plain or not by_onednn(x):
            return functional.linear(x, self.weight, self.bias)
        flat: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), self.weight, self.bias)
        return flat.view(*x.shape[:-1], -1)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        out: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(x), weight, bias, "none", [], "")
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        return (
            product(grad, weight.t()) if ctx.needs_input_grad[0] else None,
            outer(grad, x) if ctx.needs_input_grad[1] else None,
            grad.sum(0) if ctx.biased else None,
        )
