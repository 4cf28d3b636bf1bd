"""Masked batch norm, with the ReLU and the max pool behind it: the passes of a CPU.

Shapes: B batch, T frames, C channels, W channels of a part: the input may lie in parts (B, T, W)
that stand side by side.
"""

import torch
from torch import Tensor

from tacoskip.blocks.layers import MaskedBatchNorm1d
from tacoskip.kernels.cpu.networks import Argument, call, compute_dtype
from tacoskip.kernels.norm import Passes, normalize
from tacoskip.models.cbhg import ConvBank

# Frames whose sums are taken at once: few enough to stay in the cache.
BLOCK = 128
FIELDS = (
    *("items", "frames", "parts", "width", "block", "relu", "pool"),
    *("x", "real", "slope", "shift", "centre", "sums", "out", "d_out", "d_sums"),
    *("offset", "linear", "d_x"),
)


def _call(
    kernel: str,
    parts: list[Tensor],
    mask: Tensor,
    inputs: dict[str, Tensor],
    outputs: dict[str, Tensor | list[Tensor]],
    relu: bool = False,
    pool: bool = False,
) -> None:
    items, frames, width = parts[0].shape
    given: dict[str, Argument] = {"items": items, "frames": frames, "parts": len(parts)}
    given |= {"width": width, "block": BLOCK, "relu": int(relu), "pool": int(pool)}
    given |= {"x": list(parts), "real": mask, **inputs}
    call(kernel, parts[0].dtype, FIELDS, given, outputs)


def statistics(parts: list[Tensor], mask: Tensor) -> Tensor:
    channels = sum(part.shape[2] for part in parts)
    blocks = -(-mask.numel() // BLOCK)
    sums = parts[0].new_empty(blocks, 2 * channels + 1, dtype=torch.float32)
    _call("norm_sums", parts, mask, {}, {"sums": sums})
    mean, square, rows = sums.double().split([channels, channels, 1], 1)
    # Squares are summed about each block's own mean, or single precision would lose a small one.
    squares = square + rows * mean.square()
    return torch.cat([(mean * rows).sum(0), squares.sum(0), rows.sum(0)])


def apply(
    parts: list[Tensor], mask: Tensor, slope: Tensor, shift: Tensor, relu: bool, pool: bool
) -> Tensor:
    out = parts[0].new_empty(*mask.shape, len(slope))
    _call("norm_apply", parts, mask, {"slope": slope, "shift": shift}, {"out": out}, relu, pool)
    return out


def gradient_sums(
    parts: list[Tensor], mask: Tensor, affine: list[Tensor], d_out: Tensor, relu: bool, pool: bool
) -> Tensor:
    names = "slope", "shift", "centre", "d_out"
    given = dict(zip(names, [*affine, d_out], strict=True))
    sums = affine[0].new_empty(len(mask), 2, len(affine[0]))
    _call("norm_back", parts, mask, given, {"d_sums": sums}, relu, pool)
    return sums.double().sum(0)


def input_gradient(
    parts: list[Tensor], mask: Tensor, affine: list[Tensor], d_out: Tensor, relu: bool, pool: bool
) -> list[Tensor]:
    names = "slope", "shift", "offset", "linear", "d_out"
    given = dict(zip(names, [*affine, d_out], strict=True))
    d_parts = [torch.empty_like(part) for part in parts]
    _call("norm_back", parts, mask, given, {"d_x": d_parts}, relu, pool)
    return d_parts


PASSES = Passes(statistics, apply, gradient_sums, input_gradient)


def normalized(norm: MaskedBatchNorm1d, parts: list[Tensor], mask: Tensor, pool: bool) -> Tensor:
    """The norm of parts, its ReLU, and a max pool if asked."""
    if norm.training:
        return normalize(PASSES, norm, parts, mask, pool)
    mean, variance = norm.running()
    slope = norm.weight * torch.rsqrt(variance + norm.eps)
    parts = [part.contiguous() for part in parts]
    return apply(parts, mask.contiguous(), slope, norm.bias - mean * slope, norm.relu, pool)


def is_compiled(norm: MaskedBatchNorm1d, x: Tensor) -> bool:
    """Whether the kernels normalise x now: not for a gradient of evaluation."""
    trains = norm.training or not torch.is_grad_enabled()
    return trains and compute_dtype(x, norm.weight) is not None


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
