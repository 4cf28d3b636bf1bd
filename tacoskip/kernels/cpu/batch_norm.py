"""Masked batch norm, with the ReLU and the max pool behind it, in two passes each way.

Shapes: B batch, T frames, C channels, W channels of a part: the input may lie in parts (B, T, W)
that stand side by side.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor, distributed

from tacoskip.blocks.layers import MaskedBatchNorm1d
from tacoskip.kernels.cpu.matmul import convolve
from tacoskip.kernels.cpu.networks import call, compute_dtype
from tacoskip.kernels.operators import operator
from tacoskip.models.cbhg import ConvBank

# Frames whose sums are taken at once: few enough to stay in the cache.
BLOCK = 128
FIELDS = (
    *("failed", "items", "frames", "parts", "width", "block", "relu", "pool"),
    *("x", "real", "slope", "shift", "centre", "sums", "out", "d_out", "d_sums"),
    *("offset", "linear", "factor", "d_x"),
)


def _call(kernel: str, parts: list[Tensor], **arguments: Tensor | int) -> None:
    items, frames, width = parts[0].shape
    x = _addresses(parts)
    sizes = {"items": items, "frames": frames, "parts": len(parts), "width": width, "block": BLOCK}
    call(kernel, parts[0].dtype, FIELDS, {**sizes, "x": ctypes.addressof(x), **arguments})


def _addresses(tensors: list[Tensor]) -> Any:
    assert all(x.is_contiguous() for x in tensors)
    return (ctypes.c_void_p * len(tensors))(*(x.data_ptr() for x in tensors))


@operator("normalize")
def normalize(
    parts: list[Tensor], mask: Tensor, slope: Tensor, shift: Tensor, relu: bool, pool: bool
) -> Tensor:
    """X slope + shift of real frames, both (C,), then the ReLU, then the maximum of each frame and
    the next: (B, T, C), zero at padded frames. Without a gradient.
    """
    items, frames, width = parts[0].shape
    out = parts[0].new_empty(items, frames, width * len(parts))
    given = {"real": mask, "slope": slope, "shift": shift, "out": out}
    _call("norm_apply", parts, **given, relu=relu, pool=pool)
    return out


@normalize.register_fake
def _(
    parts: list[Tensor], mask: Tensor, slope: Tensor, shift: Tensor, relu: bool, pool: bool
) -> Tensor:
    items, frames, width = parts[0].shape
    return parts[0].new_empty(items, frames, width * len(parts))


@operator("batch_norm")
def batch_norm(
    parts: list[Tensor],
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    relu: bool,
    pool: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output (B, T, C), see `normalize`; mean and biased variance (C,) and number of real frames,
    in double precision and without a gradient.
    """
    items, frames, width = parts[0].shape
    channels = width * len(parts)
    sums = torch.empty(-(-items * frames // BLOCK), 2 * channels + 1)
    _call("norm_sums", parts, real=mask, sums=sums)
    block_mean, square, rows = sums.double().split([channels, channels, 1], 1)
    count = rows.sum().clamp(min=1)
    mean = (block_mean * rows).sum(0) / count
    # Squares are summed about each block's own mean, or single precision would lose a small one.
    square = (square + rows * block_mean.square()).sum(0) / count
    variance = (square - mean.square()).clamp(min=0)
    slope = torch.rsqrt(variance + eps).to(weight.dtype) * weight
    shift = bias - mean.to(weight.dtype) * slope
    return normalize(parts, mask, slope, shift, relu, pool), mean, variance, count


@batch_norm.register_fake
def _(
    parts: list[Tensor],
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    relu: bool,
    pool: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    items, frames, width = parts[0].shape
    double = weight.new_empty(width * len(parts), dtype=torch.float64)
    out = parts[0].new_empty(items, frames, width * len(parts))
    return out, double, torch.empty_like(double), double.new_empty(())


@operator("batch_norm_backward")
def batch_norm_backward(
    d_out: Tensor,
    parts: list[Tensor],
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    scale: Tensor,
    count: Tensor,
    relu: bool,
    pool: bool,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Gradients of the parts, of weight and of bias; mean and scale (C,) are those of the batch."""
    centre = mean.to(weight.dtype)
    slope = scale.to(weight.dtype) * weight
    shift = bias - centre * slope
    given = {"real": mask, "slope": slope, "shift": shift, "d_out": d_out}
    d_sums = torch.empty(len(d_out), 2, len(weight))
    _call("norm_back", parts, **given, centre=centre, d_sums=d_sums, relu=relu, pool=pool)
    d_bias, d_weight = d_sums.double().sum(0)
    d_weight = d_weight * scale
    # The statistics' share of the gradient of x: -offset + x linear.
    linear = -d_weight / count * scale
    offset = (d_bias / count + linear * mean).to(weight.dtype)
    d_parts = [torch.empty_like(part) for part in parts]
    places = _addresses(d_parts)
    back = {"offset": offset, "linear": linear.to(weight.dtype), "factor": slope}
    d_x = ctypes.addressof(places)
    _call("norm_back", parts, **given, **back, d_x=d_x, relu=relu, pool=pool)
    return d_parts, d_weight.to(weight.dtype), d_bias.to(weight.dtype)


@batch_norm_backward.register_fake
def _(
    d_out: Tensor,
    parts: list[Tensor],
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    scale: Tensor,
    count: Tensor,
    relu: bool,
    pool: bool,
) -> tuple[list[Tensor], Tensor, Tensor]:
    d_parts = [torch.empty_like(part) for part in parts]
    return d_parts, torch.empty_like(weight), torch.empty_like(weight)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    parts, mask, weight, bias, eps, ctx.relu, ctx.pool = inputs
    _, mean, variance, count = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(mask, weight, bias, mean, torch.rsqrt(variance + eps), count, *parts)


def _backward(ctx: Any, d_out: Tensor, *_: None) -> tuple[Any, ...]:
    mask, weight, bias, mean, scale, count, *parts = ctx.saved_tensors
    norm = weight, bias, mean, scale, count
    d_out = d_out.contiguous()
    d_parts, d_weight, d_bias = batch_norm_backward(d_out, parts, mask, *norm, ctx.relu, ctx.pool)
    return d_parts, None, d_weight, d_bias, None, None, None


batch_norm.register_autograd(_backward, _save)


def normalized(norm: MaskedBatchNorm1d, parts: list[Tensor], mask: Tensor, pool: bool) -> Tensor:
    """The norm of parts, its ReLU, and a max pool if asked."""
    parts, mask = [part.contiguous() for part in parts], mask.contiguous()
    if not norm.training:
        mean, variance = norm.running()
        slope = norm.weight * torch.rsqrt(variance + norm.eps)
        shift = norm.bias - mean * slope
        return normalize(parts, mask, slope, shift, norm.relu, pool)  # type: ignore[no-any-return]
    out, mean, variance, count = batch_norm(
        parts, mask, norm.weight, norm.bias, norm.eps, norm.relu, pool
    )
    norm.update(mean, variance * count / (count - 1).clamp(min=1))
    return out  # type: ignore[no-any-return]


def is_compiled(norm: MaskedBatchNorm1d, x: Tensor) -> bool:
    """Whether the kernels normalise x now: not over several processes, nor for a gradient of
    evaluation.
    """
    several = norm.sync and distributed.is_available() and distributed.is_initialized()
    if several or not (norm.training or not torch.is_grad_enabled()):
        return False
    return compute_dtype(x, norm.weight) is not None and x.dtype in (torch.float32, torch.bfloat16)


class CompiledBatchNorm1d(MaskedBatchNorm1d):
    """MaskedBatchNorm1d in two passes each way."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if not is_compiled(self, x):
            return super().forward(x, mask)
        return normalized(self, [x], mask, pool=False)


class CompiledConvBank(ConvBank):
    """ConvBank whose convolutions read one padded copy, and whose outputs are never put side by
    side before the norm.
    """

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if not is_compiled(self.norm, x):
            return super().forward(x, mask)
        return normalized(self.norm, [convolve(conv, x) for conv in self.convs], mask, pool=True)
