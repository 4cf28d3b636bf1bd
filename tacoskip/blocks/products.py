"""Products and convolutions of training on a CPU, by the faster of the libraries torch carries.

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

from tacoskip.blocks.recorded import is_recorded

# Rows that `outer` sums at a time.
ROWS = 1024
# Weights of one tap from which oneDNN's own gradient of a convolution is the slower way.
LARGE_TAP = 2**17


@cache
def _mkl_holds_back() -> bool:
    """Whether this processor is AMD's and torch lets oneDNN be called."""
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkl.is_available():
        return False
    if not _has_products():
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def by_onednn(x: Tensor) -> bool:
    """Whether `product` gives x to oneDNN."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and _mkl_holds_back()


def _adds_bias(x: Tensor) -> bool:
    low = x.device.type == "cpu" and x.dtype == torch.bfloat16
    return low and torch.backends.mkldnn.is_available() and _has_products()


@cache
def _has_products() -> bool:
    return hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product of a (N, K) and b (M, K) transposed, (N, M), and bias (M,) added; where no
    gradient is recorded.
    """
    # oneDNN knows no sums of nothing. In bfloat16 torch goes to it too, but adds the bias apart.
    if a.numel() and (by_onednn(a) or (bias is not None and _adds_bias(a))):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(a), _dense(b), bias, "none", [], "")
        return out
    return functional.linear(a, b, bias)


def _dense(x: Tensor) -> Tensor:
    """A matrix without gaps: for others oneDNN has only its reference, hundreds of times slower."""
    return x if x.is_contiguous() or x.t().is_contiguous() else x.contiguous()


def outer(grads: Tensor, inputs: Tensor) -> Tensor:
    """Gradient (M, K) of weights from grads (N, M) and inputs (N, K).

    Few rows at a time, so that what is summed stays in the cache; and the wider operand second,
    which is how oneDNN is quicker.
    """
    turned = grads.shape[1] > inputs.shape[1]
    if not by_onednn(grads):
        # In bfloat16 only a width of whole vectors is quicker there.
        turned &= grads.dtype == torch.bfloat16 and grads.shape[1] % 32 == 0
        return (inputs.t() @ grads).t() if turned else grads.t() @ inputs
    first, second = (inputs, grads) if turned else (grads, inputs)
    total = product(first[:ROWS].t(), second[:ROWS].t())
    for start in range(ROWS, len(first), ROWS):
        rows = slice(start, start + ROWS)
        total += product(first[rows].t(), second[rows].t())
    return total.t() if turned else total


def _is_written_out(x: Tensor) -> bool:
    """Whether an operation on x is one of those below, with its gradient.

    What counts multiply-adds, and what writes a network down or compiles it, knows torch's own
    only.
    """
    plain = not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    return not (plain or is_recorded() or torch.compiler.is_compiling()) and by_onednn(x)


def runs_low(x: Tensor, weight: Tensor) -> bool:
    """Whether an operation on x is in bfloat16, by `low_linear`: under autocast to it."""
    plain = not torch.is_grad_enabled() or not torch.is_autocast_enabled("cpu")
    if plain or is_recorded() or torch.compiler.is_compiling():
        return False
    low = torch.get_autocast_dtype("cpu") == torch.bfloat16 and weight.dtype == torch.float32
    here = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)
    return low and here and torch.backends.mkldnn.is_available() and _has_products()


class Linear(nn.Linear):
    """nn.Linear: x (..., K) -> (..., M)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() and runs_low(x, self.weight):
            return low_linear(x, self.weight, self.bias)
        if not _is_written_out(x):
            return functional.linear(x, self.weight, self.bias)
        x = x if x.dim() == 2 else x.contiguous()
        return _Linear.apply(x, self.weight, self.bias)  # type: ignore[no-any-return]


def low_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """X (..., K) by weight (M, K) and bias (M,) in bfloat16, where oneDNN multiplies: (..., M)."""
    with torch.autocast("cpu", enabled=False):
        x, weight = x.to(torch.bfloat16), weight.to(torch.bfloat16)
        bias = bias.to(torch.bfloat16) if bias is not None else None
        return _Linear.apply(x.contiguous(), weight, bias)  # type: ignore[no-any-return]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        dense = _dense(x) if x.dim() == 2 else x
        out: Tensor = torch.ops.mkldnn._linear_pointwise(dense, weight, bias, "none", [], "")
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grads[0].reshape(-1, len(weight))
        return (
            product(grad, weight.t()).view_as(x) if ctx.needs_input_grad[0] else None,
            outer(grad, x.reshape(-1, x.shape[-1])) if ctx.needs_input_grad[1] else None,
            grad.sum(0) if ctx.biased else None,
        )


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    groups: int = 1,
    padding: int = 0,
) -> Tensor:
    """Convolution over time: x (B, T, C), weight (O, C / groups, K) as nn.Conv1d has it, padding:
    frames of zeros on each side -> (B, (T + 2 padding - K) // stride + 1, O).

    As an image one row high, so that channels may lie innermost, where x has them anyway: conv1d
    would copy x into another order and its output back.
    """
    large = weight[:, :, 0].numel() >= LARGE_TAP and stride == groups == 1 and bias is None
    if large and x.numel() and 2 * padding + 1 == weight.shape[2] and runs_low(x, weight):
        with torch.autocast("cpu", enabled=False):
            low = x.to(torch.bfloat16), weight.to(torch.bfloat16)
            return _ConvolveLow.apply(*low)  # type: ignore[no-any-return]
    if large and not padding and _is_written_out(x):
        return _Convolve.apply(x, weight)  # type: ignore[no-any-return]
    out = functional.conv2d(
        _image(x), weight[:, :, None], bias, (1, stride), (0, padding), groups=groups
    )
    # Not out[:, :, 0], whose gradient is a copy in another order.
    return out.squeeze(2).transpose(1, 2)  # (B, O, 1, T) -> (B, T, O)


def _image(x: Tensor) -> Tensor:
    return x[:, None].permute(0, 3, 1, 2)  # (B, T, C) -> (B, C, 1, T)


class _Convolve(torch.autograd.Function):
    """A convolution whose weights' gradient is one product a tap: of the output's gradient and the
    input shifted, items one after another as they lie in memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.conv2d(_image(x), weight[:, :, None]).squeeze(2).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        taps = weight.shape[2]
        # As long as x: the frames that reach over into the next item weigh nothing.
        padded = functional.pad(grads[0], (0, 0, 0, taps - 1))
        d_x = d_weight = None
        if ctx.needs_input_grad[1]:
            rows, inputs = padded.flatten(0, 1), x.reshape(-1, x.shape[2])
            count = len(rows) - taps + 1
            each = (outer(rows[:count], inputs[k : k + count]) for k in range(taps))
            d_weight = torch.stack(list(each), 2)
        if ctx.needs_input_grad[0]:
            wider = functional.pad(padded, (0, 0, taps - 1, 0))
            back = weight.flip(2).transpose(0, 1)
            d_x = functional.conv2d(_image(wider), back[:, :, None]).squeeze(2).transpose(1, 2)
        return d_x, d_weight


class _ConvolveLow(torch.autograd.Function):
    """As `_Convolve` in bfloat16, with as many frames out as in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        padding = 0, weight.shape[2] // 2
        out = functional.conv2d(_image(x), weight[:, :, None], padding=padding)
        return out.squeeze(2).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad, padding = grads[0].contiguous(), weight.shape[2] // 2
        d_x = d_weight = None
        if ctx.needs_input_grad[1]:
            shifts = range(-padding, padding + 1)
            d_weight = torch.stack([_of_shift(grad, x, shift) for shift in shifts], 2)
        if ctx.needs_input_grad[0]:
            back = weight.flip(2).transpose(0, 1)[:, :, None]
            d_x = functional.conv2d(_image(grad), back, padding=(0, padding))
            d_x = d_x.squeeze(2).transpose(1, 2)
        return d_x, d_weight


def _of_shift(grad: Tensor, x: Tensor, shift: int) -> Tensor:
    """Gradient (O, C) of the weights that see x (B, T, C) so many frames after grad (B, T, O)."""
    rows, inputs, size = grad, x.reshape(-1, x.shape[2]), abs(shift)
    if size >= x.shape[1]:
        return grad.new_zeros(grad.shape[2], x.shape[2])
    if shift:
        rows = grad.clone()
        # What reaches over into another item weighs nothing.
        rows[:, slice(0, size) if shift < 0 else slice(x.shape[1] - size, None)] = 0.0
    flat, count = rows.flatten(0, 1), len(inputs)
    behind, ahead = slice(size, count), slice(0, count - size)
    own, seen = (behind, ahead) if shift < 0 else (ahead, behind)
    return outer(flat[own], inputs[seen])
