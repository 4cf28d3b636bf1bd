"""Layers that padding cannot reach: what every block family and CBHG are made of.

B batch, T frames, C channels. `mask` is bool (B, T), True on real frames.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tacoskip.blocks.products import convolve
from tacoskip.blocks.recorded import is_recorded
from tacoskip.kernels.cpu import low


class MaskedConv1d(nn.Module):
    """Convolution over time with "same" length; padded frames count as the zeros beyond the edge.

    An even kernel looks one frame further ahead than back, as TensorFlow's "same" does, and with it
    the original Tacotron.

    forward: x (B, T, in_channels), mask (B, T) -> (B, T, out_channels). What it computes at padded
    frames is for the next layer to mask; a MaskedBatchNorm1d does. clear: x is zero at padded
    frames, and its gradient there goes nowhere.
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

    def forward(self, x: Tensor, mask: Tensor, clear: bool = False) -> Tensor:
        x = x if clear else x.masked_fill(~mask[:, :, None], 0.0)
        groups, padding = self.conv.groups, 0
        if self.left == self.right and torch.is_autocast_enabled(x.device.type):
            padding = self.left
        else:
            x = functional.pad(x, (0, 0, self.left, self.right))
        return convolve(x, self.conv.weight, self.conv.bias, groups=groups, padding=padding)


class MaskedBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation (Ioffe and Szegedy 2015) whose statistics count real frames only.

    More padding changes neither output nor running statistics. Forward and backward each go through
    the batch twice, a few items at a time, which stay in the processor's cache.

    total: adds a tensor up over the processes that share a batch, and says whether this one's rows
    count; None where one has all of it. Statistics are then of all its rows.
    fused: `normalise` as torch.compile makes it, for training where one process has all rows.

    forward: x (B, T, C), or parts of it to stand side by side, mask (B, T) -> (B, T, C), zero at
    padded frames. rectify: a ReLU follows; pool: and then the maximum of each frame and the next, a
    max pool of width 2 and stride 1.
    """

    total: "Total | None" = None
    fused: "Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]] | None" = None

    def forward(  # type: ignore[override]
        self, x: Tensor | list[Tensor], mask: Tensor, rectify: bool = False, pool: bool = False
    ) -> Tensor:
        parts = x if isinstance(x, list) else [x]
        compiled = self.training and self.fused is None and _is_low(parts, self.weight)
        x = parts[0] if compiled or len(parts) == 1 else torch.cat(parts, 2)
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
        given = mask, self.weight, self.bias, self.eps, (rectify or pool, pool)
        if compiled:
            out, mean, variance, count = _NormaliseLow.apply(*given, self.total, *parts)
        elif self.fused is None or self.total is not None:
            out, mean, variance, count = _Normalise.apply(x, *given, self.total)
        else:
            out, mean, variance, count = self.fused(x, *given)
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        self.num_batches_tracked += 1
        return out


Total = Callable[[Tensor], tuple[Tensor, bool]]


def normalise(
    x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, eps: float, follow: tuple[bool, bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `_Normalise` gives on one process, in operations that torch.compile can fuse."""
    padded = ~mask[:, :, None]
    part = x.to(weight.dtype).masked_fill(padded, 0.0)
    count = mask.sum().double().clamp(min=1)
    mean = part.sum((0, 1), dtype=torch.float64) / count
    part = (part - mean.to(weight.dtype)).masked_fill(padded, 0.0)
    variance = part.square().sum((0, 1), dtype=torch.float64) / count
    y = part * (torch.rsqrt(variance + eps).to(weight.dtype) * weight) + bias
    y = (torch.relu(y) if follow[0] else y).masked_fill(padded, 0.0).to(x.dtype)
    if follow[1]:
        y = torch.maximum(y, functional.pad(y[:, 1:], (0, 0, 0, 1)))
    return y, mean.detach(), variance.detach(), count


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
            part, padded = _real(x, mask, items, weight.dtype)
            own = mask[items].sum().clamp(min=1)
            mean = part.sum((0, 1)) / own
            # About the block's own mean, or single precision would lose a small variance.
            square = _clear(part - mean, padded).square_().sum((0, 1)).double()
            mean, own = mean.double(), mask[items].sum().double()
            sums += torch.cat([mean * own, square + own * mean.square(), own[None]])
        mean, variance, count, ctx.counts = _statistics(sums, total)
        centre, scale = mean.to(weight.dtype), torch.rsqrt(variance + eps).to(weight.dtype)
        out = torch.empty_like(x)
        for items in _few_items(x):
            part, padded = _real(x, mask, items, weight.dtype)
            y = _affine(part, padded, centre, scale * weight, bias, follow[0])
            if follow[1]:
                out[items, -1:] = y[:, -1:]
                out[items, :-1] = torch.maximum(y[:, :-1], y[:, 1:])
            else:
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
            part, padded = _real(x, mask, items, weight.dtype)
            d_y, _ = _real(grads[0], mask, items, weight.dtype)
            if rectify:
                y = _affine(part, padded, centre, scale * weight, bias, True)
                if pool:
                    d_y = _unpool(y, d_y)
                d_y = torch.ops.aten.threshold_backward(d_y, y, 0)
            own += torch.stack([d_y.sum((0, 1)), (d_y * (part - centre)).sum((0, 1))])
            d_x[items] = d_y
        own[1] *= scale
        offset, linear = _corrections(own, centre, scale, count, ctx.total, ctx.counts)
        for items in _few_items(x):
            part, padded = _real(x, mask, items, weight.dtype)
            back = torch.addcmul(d_x[items].to(weight.dtype) - offset, part, linear)
            d_x[items] = _clear(back.mul_(scale * weight), padded)
        d_weight = own.to(weight.dtype)
        return d_x, None, d_weight[1], d_weight[0], None, None, None


def _statistics(sums: Tensor, total: Total | None) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Mean and variance (C,), and rows, of sums (2 C + 1,) of x, of its squares and of rows; and
    whether these count.
    """
    sums, counts = (sums, True) if total is None else total(sums)
    count = sums[-1].clamp(min=1)
    mean, square = (sums[:-1] / count).chunk(2)
    return mean, (square - mean.square()).clamp(min=0), count, counts


def _corrections(
    own: Tensor, centre: Tensor, scale: Tensor, count: Tensor, total: Total | None, counts: bool
) -> tuple[Tensor, Tensor]:
    """What the statistics give to the gradient of x: -offset + x linear, both (C,), before
    everything is multiplied by the slope. own (2, C): gradients of bias and weight.
    """
    sums = own if total is None else total(own)[0]
    # Of rows that do not count the statistics do not depend.
    d_bias, slope = sums / count * counts
    linear = -slope * scale
    return (d_bias + linear * centre).to(centre.dtype), linear.to(centre.dtype)


def _is_low(parts: list[Tensor], weight: Tensor) -> bool:
    """Whether parts of an input are normalised by compiled code."""
    alike = all(part.shape == parts[0].shape for part in parts)
    return alike and weight.dtype == torch.float32 and all(low.takes(part) for part in parts)


class _NormaliseLow(torch.autograd.Function):
    """As `_Normalise`, x in bfloat16 and in parts."""

    @staticmethod
    def forward(
        ctx: Any,
        mask: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        follow: tuple[bool, bool],
        total: Total | None,
        *parts: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        parts = tuple(part.contiguous() for part in parts)
        norm = low.Norm(list(parts), mask, *follow)
        mean, square, own = (each.double() for each in norm.sums())
        each = torch.cat([mean * own, square + own * mean.square(), own], 1)
        mean, variance, count, ctx.counts = _statistics(each.sum(0), total)
        centre, scale = mean.to(weight.dtype), torch.rsqrt(variance + eps).to(weight.dtype)
        slope = scale * weight
        shift = bias - centre * slope
        ctx.save_for_backward(mask, centre, scale, slope, shift, count, *parts)
        ctx.follow, ctx.total = follow, total
        ctx.mark_non_differentiable(mean, variance, count)
        return norm.apply(slope, shift), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        mask, centre, scale, slope, shift, count, *parts = ctx.saved_tensors
        norm, d_out = low.Norm(parts, mask, *ctx.follow), grads[0].contiguous()
        own = norm.back_sums(d_out, slope, shift, centre).double().sum(0)
        own[1] *= scale
        corrections = _corrections(own, centre, scale, count, ctx.total, ctx.counts)
        d_parts = norm.back(d_out, slope, shift, *corrections, slope)
        d_bias, d_weight = own.to(slope.dtype)
        return None, d_weight, d_bias, None, None, None, *d_parts


def _few_items(x: Tensor) -> list[slice]:
    """Cut x (B, T, C) into blocks of items of about a megabyte; on a GPU all are one block."""
    size = len(x) if x.is_cuda else max(1, 2**18 // max(1, x.shape[1] * x.shape[2]))
    return [slice(i, i + size) for i in range(0, len(x), max(1, size))]


def _real(x: Tensor, mask: Tensor, items: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Items (b, T, C) with zeros at padded frames, and where these are, for `_clear`."""
    part, padded = x[items], ~mask[items]
    if x.is_cuda:
        return part.to(dtype).masked_fill(padded[:, :, None], 0.0), padded
    # Only the padded rows are touched, not all of them a second time.
    rows = padded.flatten().nonzero()[:, 0]
    own = part.to(dtype, copy=bool(len(rows)), memory_format=torch.contiguous_format)
    return _clear(own, rows), rows


def _clear(x: Tensor, padded: Tensor) -> Tensor:
    """Put zeros at the padded frames of x (b, T, C), in place."""
    if padded.dtype == torch.bool:
        return x.masked_fill_(padded[:, :, None], 0.0)
    if len(padded):
        x.view(-1, x.shape[2]).index_fill_(0, padded, 0.0)
    return x


def _affine(
    part: Tensor, padded: Tensor, centre: Tensor, slope: Tensor, bias: Tensor, rectify: bool
) -> Tensor:
    """(x - centre) * slope + bias of a block, rectified if asked, zero at padded frames."""
    y = torch.addcmul(bias - centre * slope, part, slope)
    return _clear(y.relu_() if rectify else y, padded)


def _unpool(y: Tensor, d_pooled: Tensor) -> Tensor:
    """Gradient at y (b, T, C) of the maximum of each frame and the next; the first takes a tie."""
    first = y[:, :-1] >= y[:, 1:]
    d_y = d_pooled.clone()
    d_y[:, :-1] *= first
    d_y[:, 1:] += d_pooled[:, :-1] * ~first
    return d_y


def clear_padding(x: Tensor, mask: Tensor) -> Tensor:
    """Put zeros at padded frames: x (B, T, C), mask (B, T) -> (B, T, C).

    On a CPU in place, where x must be nobody else's, and no real frame is touched.
    """
    if x.is_cuda or is_recorded():
        return x.masked_fill(~mask[:, :, None], 0.0)
    padded = (~mask).flatten().nonzero()[:, 0]
    return _ClearPadding.apply(x, padded) if len(padded) else x  # type: ignore[no-any-return]


class _ClearPadding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, padded: Tensor) -> Tensor:
        ctx.save_for_backward(padded)
        # Not marked as written to: of a view, autograd would copy all of the gradient, twice.
        return _clear(x.data, padded)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (padded,) = ctx.saved_tensors
        return _clear(grads[0].clone(memory_format=torch.contiguous_format), padded), None


def rectified_dropout(x: Tensor, dropout: nn.Dropout) -> Tensor:
    """Dropout after a ReLU: x (..., C)."""
    if dropout.training and 0 < dropout.p < 1 and low.takes(x):
        return _RectifiedDropout.apply(x, dropout.p)  # type: ignore[no-any-return]
    return dropout(torch.relu(x))  # type: ignore[no-any-return]


class _RectifiedDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        out = low.rectified_dropout(x.contiguous(), p)
        ctx.p = p
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        return low.rectified_dropout_back(grads[0].contiguous(), out, ctx.p), None


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over real frames: x (B, T, C), mask (B, T) -> (B, C)."""
    total = x.masked_fill(~mask[:, :, None], 0.0).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)
