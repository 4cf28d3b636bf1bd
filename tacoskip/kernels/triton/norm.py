"""Masked batch norm for GPUs, with the ReLU and the max pool of two frames that may follow it.

Statistics, output and gradient take one pass over the input each, the gradient's sums another.
Statistics of several processes are added between the passes.

B batch, T frames, C channels. A program takes blocks of rows (frames of all items) and channels.
"""

# ruff: noqa: N803 (sizes keep their letters)
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from tacoskip.kernels.norm import Passes
from tacoskip.kernels.triton.gru import operator


@triton.jit
def _load(x, mask, row, col, rows, C):
    """Rows of x and which are real; row may lie outside."""
    real = tl.load(mask + row, mask=(row >= 0) & (row < rows), other=0) != 0
    place = x + row.to(tl.int64)[:, None] * C + col[None, :]
    return tl.load(place, mask=real[:, None] & (col < C)[None, :], other=0.0).to(tl.float32), real


@triton.jit
def _affine(x, real, slope, shift, RECTIFY: tl.constexpr):
    y = x * slope[None, :] + shift[None, :]
    if RECTIFY:
        y = tl.maximum(y, 0.0)
    return tl.where(real[:, None], y, 0.0)


@triton.jit(do_not_specialize=["rows"])
def _statistics(
    x, mask, partial, rows, C, BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Write count, mean and sum of squares about it, of this program's rows: partial (P, 3, C)."""
    program = tl.program_id(0)
    col = tl.program_id(1) * BC + tl.arange(0, BC)
    count = 0.0
    mean, square = tl.zeros((BC,), tl.float32), tl.zeros((BC,), tl.float32)
    for r0 in range(program * BR, rows, tl.num_programs(0) * BR):
        block, real = _load(x, mask, r0 + tl.arange(0, BR), col, rows, C)
        new = tl.sum(real.to(tl.float32), 0)
        new_mean = tl.sum(block, 0) / tl.maximum(new, 1.0)
        off = tl.where(real[:, None], block - new_mean[None, :], 0.0)
        apart, share = new_mean - mean, new / tl.maximum(count + new, 1.0)
        square += tl.sum(off * off, 0) + apart * apart * count * share
        mean += apart * share
        count += new
    out = partial + program * 3 * C + col
    tl.store(out, count + tl.zeros((BC,), tl.float32), mask=col < C)
    tl.store(out + C, mean, mask=col < C)
    tl.store(out + 2 * C, square, mask=col < C)


@triton.jit(do_not_specialize=["rows", "T"])
def _apply(
    x, mask, slope, shift, out, rows, T, C, BR: tl.constexpr, BC: tl.constexpr,
    RECTIFY: tl.constexpr, POOL: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BR + tl.arange(0, BR)
    col = tl.program_id(1) * BC + tl.arange(0, BC)
    slope = tl.load(slope + col, mask=col < C, other=0.0)
    shift = tl.load(shift + col, mask=col < C, other=0.0)
    block, real = _load(x, mask, row, col, rows, C)
    y = _affine(block, real, slope, shift, RECTIFY)
    if POOL:
        after, real = _load(x, mask, row + 1, col, rows, C)
        real = real & ((row + 1) % T != 0)
        y = tl.maximum(y, _affine(after, real, slope, shift, RECTIFY))
    place = out + row.to(tl.int64)[:, None] * C + col[None, :]
    tl.store(place, y.to(out.dtype.element_ty), mask=(row < rows)[:, None] & (col < C)[None, :])


@triton.jit
def _gradient(
    x, mask, slope, shift, d_out, row, col, rows, T, C,
    RECTIFY: tl.constexpr, POOL: tl.constexpr,
):  # fmt: skip
    """The input, which rows are real, and the gradient of the affine map's result."""
    block, real = _load(x, mask, row, col, rows, C)
    inside = (row < rows)[:, None] & (col < C)[None, :]
    place = d_out + row.to(tl.int64)[:, None] * C + col[None, :]
    d = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    if RECTIFY:
        y = _affine(block, real, slope, shift, RECTIFY)
        if POOL:
            after, there = _load(x, mask, row + 1, col, rows, C)
            there = there & ((row + 1) % T != 0)
            d = tl.where(y >= _affine(after, there, slope, shift, RECTIFY), d, 0.0)
            first = row % T == 0
            before, there = _load(x, mask, row - 1, col, rows, C)
            less = y > _affine(before, there & ~first, slope, shift, RECTIFY)
            earlier = tl.load(place - C, mask=inside & ~first[:, None], other=0.0).to(tl.float32)
            d += tl.where(less, earlier, 0.0)
        d = tl.where(y > 0, d, 0.0)
    return block, real, tl.where(real[:, None], d, 0.0)


@triton.jit(do_not_specialize=["rows", "T"])
def _sums(
    x, mask, slope, shift, centre, d_out, partial, rows, T,
    C, BR: tl.constexpr, BC: tl.constexpr,
    RECTIFY: tl.constexpr, POOL: tl.constexpr,
):  # fmt: skip
    """Write the sums of the gradient, and of it times the centred input: partial (P, 2, C)."""
    program = tl.program_id(0)
    col = tl.program_id(1) * BC + tl.arange(0, BC)
    slope = tl.load(slope + col, mask=col < C, other=0.0)
    shift = tl.load(shift + col, mask=col < C, other=0.0)
    middle = tl.load(centre + col, mask=col < C, other=0.0)
    plain, times = tl.zeros((BC,), tl.float32), tl.zeros((BC,), tl.float32)
    for r0 in range(program * BR, rows, tl.num_programs(0) * BR):
        row = r0 + tl.arange(0, BR)
        block, _, d = _gradient(
            x, mask, slope, shift, d_out, row, col, rows, T, C, RECTIFY, POOL
        )  # fmt: skip
        plain += tl.sum(d, 0)
        times += tl.sum(d * (block - middle[None, :]), 0)
    out = partial + program * 2 * C + col
    tl.store(out, plain, mask=col < C)
    tl.store(out + C, times, mask=col < C)


@triton.jit(do_not_specialize=["rows", "T"])
def _backward(
    x, mask, slope, shift, offset, linear, d_out, d_x, rows, T,
    C, BR: tl.constexpr, BC: tl.constexpr,
    RECTIFY: tl.constexpr, POOL: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BR + tl.arange(0, BR)
    col = tl.program_id(1) * BC + tl.arange(0, BC)
    slope = tl.load(slope + col, mask=col < C, other=0.0)
    shift = tl.load(shift + col, mask=col < C, other=0.0)
    block, real, d = _gradient(
        x, mask, slope, shift, d_out, row, col, rows, T, C, RECTIFY, POOL
    )  # fmt: skip
    d -= tl.load(offset + col, mask=col < C, other=0.0)[None, :]
    d += block * tl.load(linear + col, mask=col < C, other=0.0)[None, :]
    d = tl.where(real[:, None], d * slope[None, :], 0.0)
    place = d_x + row.to(tl.int64)[:, None] * C + col[None, :]
    tl.store(place, d.to(d_x.dtype.element_ty), mask=(row < rows)[:, None] & (col < C)[None, :])


def _grid(x: Tensor, reduces: bool) -> tuple[tuple[int, int], list[int], tuple[int, int, int]]:
    rows, channels = x.shape[0] * x.shape[1], x.shape[2]
    block = min(64, max(16, triton.next_power_of_2(channels)))
    programs = triton.cdiv(rows, 64)
    if reduces:  # about four programs a multiprocessor
        programs = min(programs, max(1, 512 // triton.cdiv(channels, block)))
    return (programs, triton.cdiv(channels, block)), [rows, x.shape[1]], (channels, 64, block)


@operator("norm_statistics", lambda x, mask: x.new_empty(2 * x.shape[2] + 1, dtype=torch.float64))
def statistics(x: Tensor, mask: Tensor) -> Tensor:
    grid, (rows, _), sizes = _grid(x, True)
    partial = x.new_empty(grid[0], 3, x.shape[2], dtype=torch.float32)
    _statistics[grid](x, mask, partial, rows, *sizes)
    count, mean, square = partial.double().unbind(1)
    squares = square + count * mean.square()
    return torch.cat([(count * mean).sum(0), squares.sum(0), count[:, :1].sum(0)])


@operator("norm_apply", lambda x, *_: torch.empty_like(x))
def apply(
    x: Tensor, mask: Tensor, slope: Tensor, shift: Tensor, rectify: bool, pool: bool
) -> Tensor:
    grid, rows, sizes = _grid(x, False)
    out = torch.empty_like(x)
    _apply[grid](x, mask, slope, shift, out, *rows, *sizes, rectify, pool)
    return out


@operator("norm_sums", lambda x, *_: x.new_empty(2, x.shape[2], dtype=torch.float64))
def gradient_sums(
    x: Tensor, mask: Tensor, affine: list[Tensor], d_out: Tensor, rectify: bool, pool: bool
) -> Tensor:
    grid, rows, sizes = _grid(x, True)
    partial = x.new_empty(grid[0], 2, x.shape[2], dtype=torch.float32)
    _sums[grid](x, mask, *affine, d_out, partial, *rows, *sizes, rectify, pool)
    return partial.double().sum(0)


@operator("norm_backward", lambda x, *_: torch.empty_like(x))
def input_gradient(
    x: Tensor, mask: Tensor, affine: list[Tensor], d_out: Tensor, rectify: bool, pool: bool
) -> Tensor:
    grid, rows, sizes = _grid(x, False)
    d_x = torch.empty_like(x)
    _backward[grid](x, mask, *affine, d_out, d_x, *rows, *sizes, rectify, pool)
    return d_x


def _of_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take the only part."""
    return lambda parts, *rest: function(*parts, *rest)


PASSES = Passes(
    _of_one(statistics),
    _of_one(apply),
    _of_one(gradient_sums),
    lambda parts, *rest: [input_gradient(*parts, *rest)],
)
