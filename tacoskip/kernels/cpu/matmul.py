"""Matrix products and convolutions by the faster of the libraries torch carries.

Torch sends float32 products to MKL, which uses half of what a processor can do where it is not
Intel's own; oneDNN, which runs torch's convolutions, uses more. On an AMD processor float32
products go there; elsewhere, and in any other precision, these functions are torch's own.

Shapes: N rows, K summed, M columns; B batch, T frames, C channels, O output channels.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.layers import MaskedConv1d, SameConv1d
from tacoskip.kernels.cpu.networks import operator
from tacoskip.masks import clear_padding

# Rows that `outer` sums at a time.
ROWS = 1024


@cache
def has_onednn() -> bool:
    """Whether torch lets oneDNN's product be called: its operator is not public."""
    available: bool = torch.backends.mkldnn.is_available()
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def is_amd() -> bool:
    """Whether this is an AMD processor and torch has both MKL and oneDNN."""
    mkl: bool = torch.backends.mkl.is_available()
    if not mkl or not has_onednn():
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """A (N, K) by b (M, K) transposed, plus bias (M,): (N, M)."""
    float32 = a.dtype == torch.float32 and is_amd()
    # In bfloat16 torch goes to oneDNN too, but adds the bias separately.
    bfloat16 = a.dtype == torch.bfloat16 and bias is not None and has_onednn()
    if a.numel() and (float32 or bfloat16):  # oneDNN knows no empty sums
        out: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(a), _dense(b), bias, "none", [], "")
        return out
    return functional.linear(a, b, bias)


def _dense(x: Tensor) -> Tensor:
    """A matrix without gaps: for others oneDNN has only its slow reference."""
    return x if x.is_contiguous() or x.t().is_contiguous() else x.contiguous()


def outer(grads: Tensor, inputs: Tensor) -> Tensor:
    """Gradient (M, K) of weights from grads (N, M) and inputs (N, K).

    In float32 few rows at a time, so that what is summed stays in the cache; and the wider operand
    second, which is how oneDNN is quicker.
    """
    turned = grads.shape[1] > inputs.shape[1]
    if grads.dtype != torch.float32 or not is_amd():
        # In bfloat16 only a width of whole vectors is quicker that way.
        turned &= grads.dtype == torch.bfloat16 and grads.shape[1] % 32 == 0
        return (inputs.t() @ grads).t() if turned else grads.t() @ inputs
    first, second = (inputs, grads) if turned else (grads, inputs)
    total = product(first[:ROWS].t(), second[:ROWS].t())
    for start in range(ROWS, len(first), ROWS):
        rows = slice(start, start + ROWS)
        total += product(first[rows].t(), second[rows].t())
    return total.t() if turned else total


def runs_float32(x: Tensor) -> bool:
    """Whether x is float32 on the CPU and autocast is off."""
    return (
        x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    )


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """X (..., K), weight (M, K), bias (M,) -> (..., M)."""
    return product(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias = inputs
    ctx.save_for_backward(x, weight)
    ctx.has_bias = bias is not None


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    grad = grad.reshape(-1, len(weight))
    return (
        product(grad, weight.t()).view_as(x) if ctx.needs_input_grad[0] else None,
        outer(grad, x.reshape(-1, x.shape[-1])) if ctx.needs_input_grad[1] else None,
        grad.sum(0) if ctx.has_bias else None,
    )


linear = operator("linear", _forward, _save, _backward)


class OneDNNLinear(nn.Linear):
    """nn.Linear whose products in training are oneDNN's."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and runs_float32(x) and x.numel():
            return linear(x, self.weight, self.bias)
        return super().forward(x)


def _image(x: Tensor) -> Tensor:
    return x[:, None].permute(0, 3, 1, 2)  # (B, T, C) -> (B, C, 1, T)


def convolve(conv: SameConv1d, x: Tensor) -> Tensor:
    """The convolution of x (B, T, C), whose channels stay innermost: conv1d would copy x into
    another order and its output back.
    """
    left, right = conv.context
    if left != right:
        x = functional.pad(x, (0, 0, left, right))
    padding = 0, left if left == right else 0
    weight = conv.weight[:, :, None]
    dilation = 1, conv.dilation[0]
    out = functional.conv2d(_image(x), weight, conv.bias, 1, padding, dilation, conv.groups)
    # Not out[:, :, 0], whose gradient is a copy in another order.
    return out.squeeze(2).transpose(1, 2)  # (B, O, 1, T) -> (B, T, O)


class ChannelsLastConv1d(SameConv1d):
    """SameConv1d without copies into another order."""

    def forward(self, x: Tensor) -> Tensor:
        return convolve(self, x)


class ChannelsLastMaskedConv1d(MaskedConv1d):
    """MaskedConv1d without copies into another order."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return convolve(self, clear_padding(x, mask))
