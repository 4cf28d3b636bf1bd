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

    In training mode the real frames are packed, normalised by torch's own kernel and put back, so
    that more padding changes neither output nor running statistics.

    total: adds a tensor up over the processes that share a batch; None where one has all of it.
    Statistics are then of all its rows.

    forward: x (B, T, C), mask (B, T) -> (B, T, C), zero at padded frames.
    """

    total: "Total | None" = None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        if not self.training:
            assert self.running_var is not None and self.running_mean is not None
            scale = self.weight * torch.rsqrt(self.running_var + self.eps)
            shift = self.bias - self.running_mean * scale
            out = x * scale.to(x.dtype) + shift.to(x.dtype)
            return out.masked_fill(~mask[:, :, None], 0.0)
        flat = x.reshape(-1, x.shape[2])
        real = mask.reshape(-1).nonzero()[:, 0]
        packed = flat.index_select(0, real)
        out = super().forward(packed) if self.total is None else self._shared(packed, self.total)
        return torch.zeros_like(flat, dtype=out.dtype).index_copy(0, real, out).view_as(x)

    def _shared(self, packed: Tensor, total: "Total") -> Tensor:
        """What `nn.BatchNorm1d` does to (N, C), with the statistics of all processes' frames."""
        weight, bias = self.weight, self.bias
        out, mean, variance, count = _Shared.apply(packed, weight, bias, self.eps, total)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        self.num_batches_tracked += 1
        return out


Total = Callable[[Tensor], Tensor]


class _Shared(torch.autograd.Function):
    """Batch normalisation of x (N, C) with sums over all processes: one message forward, one back.

    Returns the output, mean (C,), biased variance (C,) and the number of frames, the last three in
    double precision and without a gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, total: Total
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        exact = x.double()
        own = exact.new_full((1,), len(x))
        sums = total(torch.cat([exact.sum(0), exact.square().sum(0), own]))
        count = sums[-1].clamp(min=1)
        mean, square = (sums[:-1] / count).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        centre, scale = mean.to(weight.dtype), torch.rsqrt(variance + eps).to(weight.dtype)
        ctx.save_for_backward(x, weight, centre, scale, count)
        ctx.total = total
        ctx.mark_non_differentiable(mean, variance, count)
        return ((x - centre) * (scale * weight) + bias).to(x.dtype), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, centre, scale, count = ctx.saved_tensors
        grad = grad.to(weight.dtype)
        normal = (x - centre) * scale
        own = torch.stack([grad.sum(0), (grad * normal).sum(0)])  # (2, C)
        bias, slope = (ctx.total(own.double()) / count).to(weight.dtype)
        back = scale * weight * (grad - bias - normal * slope)
        return back.to(x.dtype), own[1], own[0], None, None


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over real frames: x (B, T, C), mask (B, T) -> (B, C)."""
    total = x.masked_fill(~mask[:, :, None], 0.0).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)


def is_recorded() -> bool:
    """Whether torch.jit.trace or torch.export is writing this call down.

    What it writes must hold for other inputs too, so no branch may depend on this one's values.
    """
    return torch.jit.is_tracing() or torch.compiler.is_exporting()
