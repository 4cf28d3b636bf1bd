"""What the forward and the backward pass of the attention loop share.

Programs come in groups. A group runs R batch rows: each of its C programs computes U hidden
channels of the GRU for all R rows, and the attention of every C-th row. Between the two all
programs of a group wait for each other, so a group must be on the GPU at once.

B batch, L steps, S symbols, H hidden channels, A attention channels, K filter width, P filter width
padded to a power of 2. `history` (B, L + 1, N, S) holds the weights before each step and, where
there are filters (N = 2), their sum.
"""

# ruff: noqa: N803 (sizes keep their letters)
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from tacoskip.kernels.triton.gru import INTERPRETED, dot, tanh

LEAST = tl.constexpr(1e-12)  # weight from which a symbol counts as within reach
SLICES = 16  # programs of a group at most
MOST_ROWS = 64  # rows of a group at most, while it has more than one program
INTERPRETER_PROGRAMS = 4  # how many programs Triton's interpreter passes for

# Kernels run all steps, or one phase of one step: then no program waits for another.
ALL, RECURRENT, ATTENTION = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


class Sizes(NamedTuple):
    """Sizes a kernel is compiled for.

    BH, BA, SP: H, A and S padded to powers of 2. N: channels of history. BS, BK, BN: symbols,
    summed channels and channels of a block. ROWS: R, at least what a matrix unit takes.
    """

    H: int
    BH: int
    A: int
    BA: int
    K: int
    P: int
    N: int
    SP: int
    BS: int
    BK: int
    BN: int
    C: int
    U: int
    ROWS: int
    RECURSION: bool


def padded(size: int) -> int:
    """The next power of 2 that a matrix unit takes."""
    return max(16, triton.next_power_of_2(size))


def sizes_of(
    keys: Tensor, hidden: int, width: int, filters: Tensor, recursion: bool
) -> tuple[Sizes, int]:
    """Sizes for keys (B, S, A), H hidden channels and filters (A, 2 P) of a width; R."""
    batch, symbols, channels = keys.shape
    programs = INTERPRETER_PROGRAMS
    if keys.device.type == "cuda":
        programs = torch.cuda.get_device_properties(keys.device).multi_processor_count
    slices = min(SLICES, padded(hidden) // 16, 1 << (programs.bit_length() - 1))
    rows = triton.next_power_of_2(triton.cdiv(batch, programs // slices))
    while rows > MOST_ROWS and slices > 1:
        slices //= 2
        rows = triton.next_power_of_2(triton.cdiv(batch, programs // slices))
    unit = padded(hidden) // slices
    half = keys.element_size() == 2
    sizes = Sizes(
        hidden, padded(hidden), channels, padded(channels), width, filters.shape[1] // 2,
        2 if width else 1, padded(symbols), min(128 if half else 32, padded(symbols)),
        max(16, min(padded(hidden), (8192 if half else 4096) // (2 * unit))),
        128 if half else 64, slices, unit, max(16, rows), recursion,
    )  # fmt: skip
    return sizes, rows


def launch(
    kernel: Any,
    tensors: tuple[Any, ...],
    shape: Sequence[int],
    sizes: Sizes,
    phases: list[Any],
    like: Tensor,
) -> None:
    """Run all steps of a kernel on a batch of shape (B, L, S, R).

    Triton's interpreter runs one program after the other, so there each of the `phases` of each
    step is a launch.
    """
    groups = triton.cdiv(shape[0], shape[3])
    counters = torch.zeros(groups * 32, dtype=torch.int32, device=like.device)
    run = functools.partial(
        kernel[(groups * sizes.C,)], tensors, counters, *shape, SZ=sizes, num_warps=8,
        num_stages=3 if like.element_size() == 2 else 1,
    )  # fmt: skip
    if not INTERPRETED.value:
        run(0, shape[1], PHASE=ALL.value, launch_cooperative_grid=sizes.C > 1)
        return
    for t in range(shape[1]):
        for phase in phases:
            run(t, t + 1, PHASE=phase.value)


@triton.jit
def wait(counter, arrivals, C: tl.constexpr):
    """Wait until the C programs of a group have come here `arrivals` times in all."""
    tl.debug_barrier()
    if C > 1:
        tl.atomic_add(counter, 1, sem="release", scope="gpu")
        while tl.atomic_add(counter, 0, sem="acquire", scope="gpu") < arrivals:
            pass
        tl.debug_barrier()


@triton.jit
def group_rows(group, B, R, SZ: tl.constexpr):
    """Batch rows of a group, and which exist."""
    lane = tl.arange(0, SZ.ROWS)
    rows = (group * R + lane).to(tl.int64)
    return rows, (lane < R) & (rows < B)


@triton.jit
def product(x, ok, w, K, N: tl.constexpr, BK: tl.constexpr, M: tl.constexpr):
    """Rows x (M, K), which other programs have written, times w (K, N)."""
    acc = tl.zeros((M, N), tl.float32)
    n = tl.arange(0, N)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        within = ok[:, None] & (k < K)[None, :]
        a = tl.load(x[:, None] + k[None, :], mask=within, other=0.0, cache_modifier=".cg")
        b = tl.load(w + k[:, None] * N + n[None, :], mask=(k < K)[:, None], other=0.0)
        acc = dot(a, b, acc)
    return acc


@triton.jit
def first_of_16(x, axis: tl.constexpr):
    """Vector x as the first of 16 columns (axis 1) or rows (axis 0), the least of a product."""
    lane = tl.expand_dims(tl.arange(0, 16), 1 - axis)
    return tl.where(lane == 0, tl.expand_dims(x, axis), 0.0)


@triton.jit
def windows(past, s, S, K: tl.constexpr, P: tl.constexpr):
    """What the filters see around symbols s: last weights and summed weights (s, 2 P)."""
    j = tl.arange(0, 2 * P)
    k = j % P
    at = s[:, None] + k[None, :] - K // 2
    ok = (k < K)[None, :] & (at >= 0) & (at < S)
    return tl.load(past + (j // P)[None, :] * S + at, mask=ok, other=0.0)


@triton.jit
def load_filters(filters, A: tl.constexpr, BA: tl.constexpr, P: tl.constexpr):
    """Filters (A, 2 P), rows padded."""
    a, j = tl.arange(0, BA), tl.arange(0, 2 * P)
    within = (a < A)[:, None] & (j >= 0)[None, :]
    return tl.load(filters + a[:, None] * (2 * P) + j[None, :], mask=within, other=0.0)


@triton.jit
def hidden_energy(keys, q, filters, seen, row, s, S, SZ: tl.constexpr):
    """tanh(query + key + location) at symbols s (s, A); seen: what `windows` gives."""
    a = tl.arange(0, SZ.BA)
    within = (s < S)[:, None] & (a < SZ.A)[None, :]
    x = tl.load(keys + (row * S + s)[:, None] * SZ.A + a[None, :], mask=within, other=0.0)
    fast: tl.constexpr = x.dtype == tl.bfloat16 and not INTERPRETED
    x = x.to(tl.float32) + q[None, :]
    if SZ.P > 0:
        mix = load_filters(filters, SZ.A, SZ.BA, SZ.P)
        x = dot(seen.to(mix.dtype), tl.trans(mix), x)
    if fast:  # exact to 11 bits
        return tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return tanh(x)
