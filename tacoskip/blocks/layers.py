"""Layers that padding cannot reach: what every block family and CBHG are made of.

B batch, T frames, C channels. `mask` is bool (B, T), True on real frames.
"""

import torch
from torch import Tensor, nn
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

    forward: x (B, T, C), mask (B, T) -> (B, T, C), zero at padded frames.
    """

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        if not self.training:
            assert self.running_var is not None and self.running_mean is not None
            scale = self.weight * torch.rsqrt(self.running_var + self.eps)
            shift = self.bias - self.running_mean * scale
            out = x * scale.to(x.dtype) + shift.to(x.dtype)
            return out.masked_fill(~mask[:, :, None], 0.0)
        flat = x.reshape(-1, x.shape[2])
        real = mask.reshape(-1).nonzero()[:, 0]
        out = super().forward(flat.index_select(0, real))
        return torch.zeros_like(flat, dtype=out.dtype).index_copy(0, real, out).view_as(x)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over real frames: x (B, T, C), mask (B, T) -> (B, C)."""
    total = x.masked_fill(~mask[:, :, None], 0.0).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)


def is_recorded() -> bool:
    """Whether torch.jit.trace or torch.export is writing this call down.

    What it writes must hold for other inputs too, so no branch may depend on this one's values.
    """
    return torch.jit.is_tracing() or torch.compiler.is_exporting()
