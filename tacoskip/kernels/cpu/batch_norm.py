"""Masked batch norm, with the ReLU and the max pool behind it, in two passes each way.

Shapes: B batch, T frames, C channels, W channels of a part: the input may lie in parts (B, T, W)
that stand side by side.
"""

from typing import Any

import torch
from torch import Tensor, distributed

from tacoskip.blocks.layers import MaskedBatchNorm1d
from tacoskip.kernels.cpu.networks import Argument, call, compute_dtype, operator
from tacoskip.models.cbhg import ConvBank

# Frames whose sums are taken at once: few enough to stay in the cache.
BLOCK = 128
FIELDS = (
    *("items", "frames", "parts", "width", "block", "relu", "pool"),
    *("x", "real", "slope", "shift", "centre", "sums", "out", "d_out", "d_sums"),
    *("offset", "linear", "factor", "d_x"),
)


def _call(
    kernel: str,
    parts: list[Tensor],
    inputs: dict[str, Argument],
    outputs: dict[str, Tensor | list[Tensor]],
) -> None:
    items, frames, width = parts[0].shape
    sizes = {"items": items, "frames": frames, "parts": len(parts), "width": width, "block": BLOCK}
    call(kernel, parts[0].dtype, FIELDS, {**sizes, "x": list(parts), **inputs}, outputs)


def normalize(
    parts: list[Tensor], mask: Tensor, slope: Tensor, shift: Tensor, relu: bool, pool: bool
) -> Tensor:
    """X slope + shift of real frames, both (C,), then the ReLU, then the maximum of each frame and
    the next: (B, T, C), zero at padded frames. Without a gradient.
    """
    out = parts[0].new_empty(*mask.shape, len(slope))
    given: dict[str, Argument] = {"real": mask, "slope": slope, "shift": shift}
    given |= {"relu": int(relu), "pool": int(pool)}
    _call("norm_apply", parts, given, {"out": out})
    return out


def _forward(
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
    channels = len(weight)
    sums = weight.new_empty(-(-mask.numel() // BLOCK), 2 * channels + 1)
    _call("norm_sums", parts, {"real": mask}, {"sums": sums})
    block_mean, square, rows = sums.double().split([channels, channels, 1], 1)
    count = rows.sum().clamp(min=1)
    mean = (block_mean * rows).sum(0) / count
    # Squares are summed about each block's own mean, or single precision would lose a small one.
    square = (square + rows * block_mean.square()).sum(0) / count
    variance = (square - mean.square()).clamp(min=0)
    slope = torch.rsqrt(variance + eps).to(weight.dtype) * weight
    shift = bias - mean.to(weight.dtype) * slope
    return normalize(parts, mask, slope, shift, relu, pool), mean, variance, count


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    parts, mask, weight, bias, eps, ctx.relu, ctx.pool = inputs
    _, mean, variance, count = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(mask, weight, bias, mean, torch.rsqrt(variance + eps), count, *parts)


def _backward(ctx: Any, d_out: Tensor, *_: None) -> tuple[Any, ...]:
    mask, weight, bias, mean, scale, count, *parts = ctx.saved_tensors
    centre = mean.to(weight.dtype)
    slope = scale.to(weight.dtype) * weight
    given = {
        **{"real": mask, "slope": slope, "shift": bias - centre * slope},
        **{"d_out": d_out.contiguous(), "relu": int(ctx.relu), "pool": int(ctx.pool)},
    }
    d_sums = weight.new_empty(len(mask), 2, len(weight))
    _call("norm_back", parts, {**given, "centre": centre}, {"d_sums": d_sums})
    d_bias, d_weight = d_sums.double().sum(0)
    d_weight = d_weight * scale
    # The statistics' share of the gradient of x: -offset + x linear.
    linear = -d_weight / count * scale
    offset = (d_bias / count + linear * mean).to(weight.dtype)
    d_parts = [torch.empty_like(part) for part in parts]
    back = {"offset": offset, "linear": linear.to(weight.dtype), "factor": slope}
    _call("norm_back", parts, {**given, **back}, {"d_x": d_parts})
    return d_parts, None, d_weight.to(weight.dtype), d_bias.to(weight.dtype), None, None, None


batch_norm = operator("batch_norm", _forward, _save, _backward)


def normalized(norm: MaskedBatchNorm1d, parts: list[Tensor], mask: Tensor, pool: bool) -> Tensor:
    """The norm of parts, its ReLU, and a max pool if asked."""
    parts, mask = [part.contiguous() for part in parts], mask.contiguous()
    if not norm.training:
        mean, variance = norm.running()
        slope = norm.weight * torch.rsqrt(variance + norm.eps)
        return normalize(parts, mask, slope, norm.bias - mean * slope, norm.relu, pool)
    out, mean, variance, count = batch_norm(
        parts, mask, norm.weight, norm.bias, norm.eps, norm.relu, pool
    )
    norm.update(mean, variance * count / (count - 1).clamp(min=1))
    return out


def is_compiled(norm: MaskedBatchNorm1d, x: Tensor) -> bool:
    """Whether the kernels normalise x now: not over several processes, nor for a gradient of
    evaluation.
    """
    several = norm.sync and distributed.is_available() and distributed.is_initialized()
    if several or not (norm.training or not torch.is_grad_enabled()):
        return False
    return compute_dtype(x, norm.weight) is not None


class CompiledBatchNorm1d(MaskedBatchNorm1d):
    """MaskedBatchNorm1d in two passes each way."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        if not is_compiled(self, x):
            return super().forward(x, mask)
        return normalized(self, [x], mask, pool=False)


class CompiledConvBank(ConvBank):
    """ConvBank whose outputs are not put side by side before the norm."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if not is_compiled(self.norm, x):
            return super().forward(x, mask)
        parts = [conv(x) for conv in self.convs]
        return normalized(self.norm, parts, mask, pool=True)
