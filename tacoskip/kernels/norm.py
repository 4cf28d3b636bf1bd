"""Masked batch norm in passes over the input: two each way.

The passes are a device's own (`cpu/batch_norm.py`, `triton/norm.py`); between them the sums of
several processes are added. Statistics and their gradients are summed in double precision.

Shapes: B batch, T frames, C channels, W channels of a part: the input lies in parts (B, T, W) that
stand side by side.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from tacoskip.blocks.layers import MaskedBatchNorm1d


class Passes(NamedTuple):
    """What a device computes; all begin with the parts and the mask (B, T), dense.

    statistics: sums (2 C + 1,) of x, of its squares, and of real frames, in float64.
    apply (slope, shift, relu, pool): x slope + shift (B, T, C), then the ReLU, then the maximum of
        each frame and the next; zero at padded frames.
    gradient_sums ([slope, shift, centre], d_out, relu, pool): gradients (2, C) of shift and of
        slope, about the centre, in float64.
    input_gradient ([slope, shift, offset, linear], d_out, relu, pool): gradients of the parts.
    """

    statistics: Callable[..., Tensor]
    apply: Callable[..., Tensor]
    gradient_sums: Callable[..., Tensor]
    input_gradient: Callable[..., list[Tensor]]


class MaskedNorm(torch.autograd.Function):
    """Batch norm over real frames; `reduce` adds sums up over processes.

    Returns the output, and mean (C,), biased variance (C,) and number of frames in float64.
    """

    @staticmethod
    def forward(
        ctx: Any,
        passes: Passes,
        mask: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        options: tuple[bool, bool],
        reduce: Callable[[Tensor], Tensor] | None,
        *parts: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        relu, pool = options
        mask, dense = mask.contiguous(), [part.contiguous() for part in parts]
        sums = passes.statistics(dense, mask)
        sums = reduce(sums) if reduce else sums
        count = sums[-1].clamp(min=1)
        mean, square = (sums[:-1] / count).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        centre, scale = mean.float(), torch.rsqrt(variance + eps).float()
        slope = scale * weight
        shift = bias - centre * slope
        ctx.save_for_backward(mask, slope, shift, centre, scale, count, *dense)
        ctx.passes, ctx.options, ctx.reduce = passes, (relu or pool, pool), reduce
        ctx.mark_non_differentiable(mean, variance, count)
        return passes.apply(dense, mask, slope, shift, *ctx.options), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        mask, slope, shift, centre, scale, count, *parts = ctx.saved_tensors
        d_out = grads[0].contiguous()
        local = ctx.passes.gradient_sums(parts, mask, [slope, shift, centre], d_out, *ctx.options)
        local[1] *= scale
        d_bias, d_weight = local.to(slope.dtype, copy=True)  # reduce works in place
        total = ctx.reduce(local) if ctx.reduce else local
        d_mean, d_scale = total / count
        linear = -d_scale * scale
        affine = [slope, shift, (d_mean + linear * centre).float(), linear.float()]
        d_parts = ctx.passes.input_gradient(parts, mask, affine, d_out, *ctx.options)
        return None, None, d_weight, d_bias, None, None, None, *d_parts


def _all_reduce(sums: Tensor) -> Tensor:
    distributed.all_reduce(sums)
    return sums


def normalize(
    passes: Passes, norm: MaskedBatchNorm1d, parts: list[Tensor], mask: Tensor, pool: bool
) -> Tensor:
    """Batch norm in training, its ReLU, and the max pool of each frame and the next if asked."""
    synced = norm.sync and distributed.is_available() and distributed.is_initialized()
    how = norm.eps, (norm.relu, pool), _all_reduce if synced else None
    out, mean, variance, count = MaskedNorm.apply(
        passes, mask, norm.weight, norm.bias, *how, *parts
    )
    norm.update(mean, variance * count / (count - 1).clamp(min=1))
    return out
