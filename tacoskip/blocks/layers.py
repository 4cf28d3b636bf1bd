"""Layers that padding cannot reach: what every block family and CBHG are made of.

B batch, T frames, C channels. `mask` is bool (B, T), True on real frames.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, groups: int = 1
) -> Tensor:
    """Convolution over time without padding: x (B, T, C), weight (O, C / groups, K) as nn.Conv1d
    has it -> (B, (T - K) // stride + 1, O).

    As an image one row high, so that channels may lie innermost, where x has them anyway: conv1d
    would copy x into another order and its output back.
    """
    image = x[:, None].permute(0, 3, 1, 2)  # (B, T, C) -> (B, C, 1, T)
    out = functional.conv2d(image, weight[:, :, None], bias, (1, stride), groups=groups)
    return out[:, :, 0].transpose(1, 2)  # (B, O, 1, T) -> (B, T, O)


class MaskedConv1d(nn.Module):
    """Convolution over time with "same" length; padded frames count as the zeros beyond the edge.

    An even kernel looks one frame further ahead than back, as TensorFlow's "same" does, and with it
    the original Tacotron.

    forward: x (B, T, in_channels), mask (B, T) -> (B, T, out_channels). What it computes at padded
    frames is for the next layer to mask; a MaskedBatchNorm1d does.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        groups: int = 1,
    ):
        super().__init__()
        self.left, self.right = (kernel_size - 1) // 2, kernel_size // 2
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, bias=bias, groups=groups)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x.masked_fill(~mask[:, :, None], 0.0)
        x = functional.pad(x, (0, 0, self.left, self.right))
        return convolve(x, self.conv.weight, self.conv.bias, groups=self.conv.groups)


class MaskedBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation (Ioffe and Szegedy 2015) whose statistics count real frames only.

    More padding changes neither output nor running statistics. Forward and backward each go through
    the batch twice, a few items at a time, which stay in the processor's cache.

    total: adds a tensor up over the processes that share a batch, and says whether this one's rows
    count; None where one has all of it. Statistics are then of all its rows.

    forward: x (B, T, C), mask (B, T) -> (B, T, C), zero at padded frames. rectify: a ReLU follows;
    pool: and then the maximum of each frame and the next, a max pool of width 2 and stride 1.
    """

    total: "Total | None" = None

    def forward(  # type: ignore[override]
        self, x: Tensor, mask: Tensor, rectify: bool = False, pool: bool = False
    ) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        if not self.training:
            scale = self.weight * torch.rsqrt(self.running_var + self.eps)
            shift = self.bias - self.running_mean * scale
            out = x * scale.to(x.dtype) + shift.to(x.dtype)
            out = torch.relu(out) if rectify or pool else out
            out = out.masked_fill(~mask[:, :, None], 0.0)
            # Nothing is negative any more, so the zeros of padding never win the maximum.
            return torch.maximum(out, functional.pad(out[:, 1:], (0, 0, 0, 1))) if pool else out
        weight, bias, follow = self.weight, self.bias, (rectify or pool, pool)
        out, mean, variance, count = _Normalise.apply(
            x, mask, weight, bias, self.eps, follow, self.total
        )
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        self.num_batches_tracked += 1
        return out


Total = Callable[[Tensor], tuple[Tensor, bool]]


class _Normalise(torch.autograd.Function):
    """Batch normalisation of x (B, T, C), and what `MaskedBatchNorm1d` says may follow it.

    With sums over all processes: one message forward, one back. Returns the output, mean (C,),
    biased variance (C,) and the number of real frames, the last three in double precision and
    without a gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mask: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        follow: tuple[bool, bool],
        total: Total | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels = x.shape[2]
        sums = weight.new_zeros(2 * channels + 1, dtype=torch.float64)
        for items in _few_items(x):
            part, real = _real(x, mask, items, weight.dtype)
            own = real.sum().clamp(min=1)
            mean = part.sum((0, 1)) / own
            # About the block's own mean, or single precision would lose a small variance.
            square = (part - mean).mul_(real).square_().sum((0, 1)).double()
            mean, own = mean.double(), real.sum().double()
            sums += torch.cat([mean * own, square + own * mean.square(), own[None]])
        sums, ctx.counts = (sums, True) if total is None else total(sums)
        count = sums[-1].clamp(min=1)
        mean, square = (sums[:-1] / count).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        centre, scale = mean.to(weight.dtype), torch.rsqrt(variance + eps).to(weight.dtype)
        out = torch.empty_like(x)
        for items in _few_items(x):
            part, real = _real(x, mask, items, weight.dtype)
            y = _affine(part, real, centre, scale * weight, bias, follow[0])
            if follow[1]:
                y[:, :-1] = torch.maximum(y[:, :-1], y[:, 1:])
            out[items] = y
        ctx.save_for_backward(x, mask, weight, bias, centre, scale, count)
        ctx.follow, ctx.total = follow, total
        ctx.mark_non_differentiable(mean, variance, count)
        return out, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, mask, weight, bias, centre, scale, count = ctx.saved_tensors
        rectify, pool = ctx.follow
        d_x = torch.empty_like(x)
        own = weight.new_zeros(2, x.shape[2], dtype=torch.float64)
        for items in _few_items(x):
            part, real = _real(x, mask, items, weight.dtype)
            d_y = grads[0][items].to(weight.dtype) * real
            if rectify:
                y = _affine(part, real, centre, scale * weight, bias, True)
                if pool:
                    d_y = _unpool(y, d_y)
                d_y *= y > 0
            own += torch.stack([d_y.sum((0, 1)), (d_y * (part - centre)).sum((0, 1))])
            d_x[items] = d_y
        own[1] *= scale
        sums = own if ctx.total is None else ctx.total(own)[0]
        # Of rows that do not count the statistics do not depend.
        d_bias, slope = (sums / count * ctx.counts).to(weight.dtype)
        for items in _few_items(x):
            part, real = _real(x, mask, items, weight.dtype)
            back = d_x[items].to(weight.dtype) - d_bias
            back.addcmul_(part - centre, slope * scale, value=-1)
            d_x[items] = back.mul_(scale * weight).mul_(real)
        d_weight = own.to(weight.dtype)
        return d_x, None, d_weight[1], d_weight[0], None, None, None


def _few_items(x: Tensor) -> list[slice]:
    """Cut x (B, T, C) into blocks of items of about a megabyte; on a GPU all are one block."""
    size = len(x) if x.is_cuda else max(1, 2**18 // max(1, x.shape[1] * x.shape[2]))
    return [slice(i, i + size) for i in range(0, len(x), max(1, size))]


def _real(x: Tensor, mask: Tensor, items: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Items with zeros at padded frames, and their mask as numbers (b, T, 1)."""
    real = mask[items, :, None]
    return x[items].to(dtype).masked_fill(~real, 0.0), real.to(dtype)


def _affine(
    part: Tensor, real: Tensor, centre: Tensor, slope: Tensor, bias: Tensor, rectify: bool
) -> Tensor:
    """(x - centre) * slope + bias of a block, rectified if asked, zero at padded frames."""
    y = torch.addcmul(bias, part - centre, slope)
    return (y.relu_() if rectify else y).mul_(real)


def _unpool(y: Tensor, d_pooled: Tensor) -> Tensor:
    """Gradient at y (b, T, C) of the maximum of each frame and the next; the first takes a tie."""
    first = y[:, :-1] >= y[:, 1:]
    d_y = d_pooled.clone()
    d_y[:, :-1] *= first
    d_y[:, 1:] += d_pooled[:, :-1] * ~first
    return d_y


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over real frames: x (B, T, C), mask (B, T) -> (B, C)."""
    total = x.masked_fill(~mask[:, :, None], 0.0).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)


def is_recorded() -> bool:
    """Whether torch.jit.trace or torch.export is writing this call down.

    What it writes must hold for other inputs too, so no branch may depend on this one's values.
    """
    return torch.jit.is_tracing() or torch.compiler.is_exporting()
