"""A persistent GRU for GPUs: all steps and both directions in one launch.

Input gates come from one matrix product before the launch and the gradients of all weights from
matrix products after it; the kernels keep only what is recurrent. One program runs one direction
of 16 batch rows. Recurrent weights stay in registers where they fit, otherwise they stream from L2.

B batch, T steps, D directions, H hidden channels. Input gates are ordered n, r, z; state gates r,
z, n as in `nn.GRU`. So one buffer (n of the input, r, z, n of the state) holds the gradients of
both as slices.
"""

# ruff: noqa: N803 (sizes keep their letters)
import os
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 16  # batch rows of a program: the least that a matrix unit takes
# Triton's interpreter multiplies bfloat16 wrongly.
INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


def operator(name: str, fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Register a function with torch; fake: its results, not yet computed."""

    def register(function: Callable[..., Any]) -> Any:
        op = torch.library.custom_op(f"tacoskip::triton_{name}", function, mutates_args=())
        op.register_fake(fake)
        return op

    return register


@triton.jit
def tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def dot(a, b, acc):
    """Matrix product; float32 on matrix units, as three products of TF32 (exact to 22 bits)."""
    if INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision="tf32x3")


@triton.jit
def dot_rows(x, w, ok, K: tl.constexpr, N: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr):
    """Rows x (16, K) times w (K, N); x holds the address of each row, ok which rows exist."""
    n = tl.arange(0, BN)
    acc = tl.zeros((x.shape[0], BN), tl.float32)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        a = tl.load(x[:, None] + k[None, :], mask=ok[:, None] & (k < K)[None, :], other=0.0)
        within = (k < K)[:, None] & (n < N)[None, :]
        b = tl.load(w + k[:, None] * N + n[None, :], mask=within, other=0.0)
        acc = dot(a, b, acc)
    return acc


@triton.jit
def load_gate(w, gate, H: tl.constexpr, k, n):
    """Weights (k, n) of one gate, transposed: w (3 H, H) by rows of the gates."""
    within = (k < H)[:, None] & (n < H)[None, :]
    return tl.load(w + (gate * H + n)[None, :] * H + k[:, None], mask=within, other=0.0)


@triton.jit
def dot_gates(x, w, ok, H: tl.constexpr, BK: tl.constexpr, BH: tl.constexpr):
    """Rows x (16, H) times the transposed weights w (3 H, H) of the gates r, z and n."""
    n = tl.arange(0, BH)
    r = tl.zeros((x.shape[0], BH), tl.float32)
    z = tl.zeros((x.shape[0], BH), tl.float32)
    s = tl.zeros((x.shape[0], BH), tl.float32)
    for k0 in range(0, H, BK):
        k = k0 + tl.arange(0, BK)
        a = tl.load(x[:, None] + k[None, :], mask=ok[:, None] & (k < H)[None, :], other=0.0)
        r = dot(a, load_gate(w, 0, H, k, n), r)
        z = dot(a, load_gate(w, 1, H, k, n), z)
        s = dot(a, load_gate(w, 2, H, k, n), s)
    return r, z, s


@triton.jit
def cell(x, saved, h, n, r, z, added, ok, H: tl.constexpr):
    """One GRU step from input gates at x, what adds to them, and added; writes `saved`."""
    n += tl.load(x, mask=ok, other=0.0).to(tl.float32)
    r = tl.sigmoid(r + tl.load(x + H, mask=ok, other=0.0).to(tl.float32))
    z = tl.sigmoid(z + tl.load(x + 2 * H, mask=ok, other=0.0).to(tl.float32))
    n = tanh(n + r * added)
    kind = saved.dtype.element_ty
    tl.store(saved, n.to(kind), mask=ok)
    tl.store(saved + H, r.to(kind), mask=ok)
    tl.store(saved + 2 * H, z.to(kind), mask=ok)
    tl.store(saved + 3 * H, added.to(kind), mask=ok)
    return n + z * (h - n)


@triton.jit
def cell_backward(d_h, saved, d_gates, before, ok, live, H: tl.constexpr):
    """Write the gradients of the gates; return those of n (state), r, z and of the last state."""
    n = tl.load(saved, mask=ok, other=0.0).to(tl.float32)
    r = tl.load(saved + H, mask=ok, other=0.0).to(tl.float32)
    z = tl.load(saved + 2 * H, mask=ok, other=0.0).to(tl.float32)
    added = tl.load(saved + 3 * H, mask=ok, other=0.0).to(tl.float32)
    d_h = tl.where(live, d_h, 0.0)
    d_n = d_h * (1 - z) * (1 - n * n)
    d_z = d_h * (before - n) * z * (1 - z)
    d_r = d_n * added * r * (1 - r)
    kind = d_gates.dtype.element_ty
    tl.store(d_gates, d_n.to(kind), mask=ok)
    tl.store(d_gates + H, d_r.to(kind), mask=ok)
    tl.store(d_gates + 2 * H, d_z.to(kind), mask=ok)
    tl.store(d_gates + 3 * H, (d_n * r).to(kind), mask=ok)
    return d_n * r, d_r, d_z, d_h * z


@triton.jit(do_not_specialize=["B", "T"])
def _forward(
    x, w, bias, lengths, hidden, saved, B, T,
    D: tl.constexpr, H: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr,
    ROWS: tl.constexpr, RESIDENT: tl.constexpr,
):  # fmt: skip
    direction = tl.program_id(1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.arange(0, BH)
    ok = (rows < B)[:, None] & (n < H)[None, :]
    length = tl.load(lengths + rows, mask=rows < B, other=0)
    w += direction * 3 * H * H
    added_bias = tl.load(bias + direction * H + n, mask=n < H, other=0.0).to(tl.float32)
    h = tl.zeros((ROWS, BH), tl.float32)
    zero = h
    if RESIDENT:
        w_r, w_z, w_n = load_gate(w, 0, H, n, n), load_gate(w, 1, H, n, n), load_gate(w, 2, H, n, n)
    for i in range(T):
        t = i + direction * (T - 1 - 2 * i)
        at = (rows.to(tl.int64) * T + t) * D + direction
        if RESIDENT:
            a = h.to(w.dtype.element_ty)
            r = dot(a, w_r, zero)
            z = dot(a, w_z, zero)
            added = dot(a, w_n, zero)
        else:
            tl.debug_barrier()  # the last state, written to memory, is read by all threads
            last = hidden + (at + (2 * direction - 1) * D) * H
            r, z, added = dot_gates(last, w, (rows < B) & (i > 0), H, BK, BH)
        added += added_bias[None, :]
        gates = x + at[:, None] * (3 * H) + n[None, :]
        kept = saved + at[:, None] * (4 * H) + n[None, :]
        h = cell(gates, kept, h, zero, r, z, added, ok, H)
        h = tl.where((t < length)[:, None], h, 0.0)
        out = hidden + at[:, None] * H + n[None, :]
        tl.store(out, h.to(hidden.dtype.element_ty), mask=ok)


@triton.jit(do_not_specialize=["B", "T"])
def _backward(
    d_hidden, w, lengths, hidden, saved, d_gates, B, T,
    D: tl.constexpr, H: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr,
    ROWS: tl.constexpr, RESIDENT: tl.constexpr,
):  # fmt: skip
    direction = tl.program_id(1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.arange(0, BH)
    ok = (rows < B)[:, None] & (n < H)[None, :]
    length = tl.load(lengths + rows, mask=rows < B, other=0)
    w += direction * 3 * H * H
    d_h = tl.zeros((ROWS, BH), tl.float32)
    if RESIDENT:
        square = n[:, None] * H + n[None, :]
        within = (n < H)[:, None] & (n < H)[None, :]
        w_r = tl.load(w + square, mask=within, other=0.0)
        w_z = tl.load(w + H * H + square, mask=within, other=0.0)
        w_n = tl.load(w + 2 * H * H + square, mask=within, other=0.0)
    for i in range(T):
        t = T - 1 - i + direction * (2 * i + 1 - T)
        at = (rows.to(tl.int64) * T + t) * D + direction
        out = at[:, None] * H + n[None, :]
        last = hidden + out + (2 * direction - 1) * D * H
        before = tl.load(last, mask=ok & (i < T - 1), other=0.0).to(tl.float32)
        d_h += tl.load(d_hidden + out, mask=ok, other=0.0).to(tl.float32)
        kept = saved + at[:, None] * (4 * H) + n[None, :]
        gates = d_gates + at[:, None] * (4 * H) + n[None, :]
        live = (t < length)[:, None]
        d_n, d_r, d_z, d_h = cell_backward(d_h, kept, gates, before, ok, live, H)
        if RESIDENT:
            kind = w.dtype.element_ty
            d_h = dot(d_r.to(kind), w_r, d_h)
            d_h = dot(d_z.to(kind), w_z, d_h)
            d_h = dot(d_n.to(kind), w_n, d_h)
        else:
            tl.debug_barrier()
            d_h += dot_rows(d_gates + at * (4 * H) + H, w, rows < B, 3 * H, H, BK, BH)


def _launch(kernel: Any, tensors: list[Tensor], batch: int, steps: int, w: Tensor) -> None:
    directions, _, channels = w.shape
    width = max(16, triton.next_power_of_2(channels))
    resident = width * w.element_size() <= 256  # three matrices fit in one SM's registers
    kernel[(triton.cdiv(batch, ROWS), directions)](
        *tensors, batch, steps, directions, channels, width,
        min(width, 128 // w.element_size()), ROWS, resident, num_warps=8 if width > 64 else 4,
        num_stages=3 if w.element_size() == 2 else 2,
    )  # fmt: skip


def _empty(gates: Tensor, weight: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
    shape, channels = gates.shape[:3], weight.shape[2]
    return gates.new_empty(*shape, channels), gates.new_empty(*shape, 4 * channels)


@operator("gru", _empty)
def gru(gates: Tensor, weight: Tensor, bias: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Run a GRU along each direction from zeros; the second starts at each item's last step.

    Args:
        gates: (B, T, D, 3 H) input gates n, r, z with all biases but that of the state's n.
        weight: (D, 3 H, H) recurrent weights r, z, n, of the dtype of gates.
        bias: (D, H) recurrent bias of n.
        lengths: (B,) integers.

    Returns:
        States (B, T, D, H), zero beyond the lengths, and (B, T, D, 4 H) for the gradient.
    """
    hidden, saved = _empty(gates, weight)
    tensors = [gates.contiguous(), weight.contiguous(), bias.contiguous(), lengths, hidden, saved]
    _launch(_forward, tensors, gates.shape[0], gates.shape[1], weight)
    return hidden, saved


@operator("gru_backward", lambda *tensors: torch.empty_like(tensors[-1]))
def gru_backward(
    d_hidden: Tensor, weight: Tensor, lengths: Tensor, hidden: Tensor, saved: Tensor
) -> Tensor:
    """Return the gradients (B, T, D, 4 H) of n (input), r, z and n (state)."""
    d_gates = torch.empty_like(saved)
    tensors = [d_hidden.contiguous(), weight.contiguous(), lengths, hidden, saved, d_gates]
    _launch(_backward, tensors, hidden.shape[0], hidden.shape[1], weight)
    return d_gates


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    _, weight, bias, lengths = inputs
    ctx.save_for_backward(weight, lengths, *output)
    ctx.bias_dtype = bias.dtype
    ctx.mark_non_differentiable(output[1])


def state_gradients(d_state: Tensor, before: Tensor) -> Tensor:
    """Gradient (3 H, H) of recurrent weights: d_state (B, T, 3 H), states before (B, T, H)."""
    return d_state.flatten(0, 1).t() @ before.flatten(0, 1)


def _gradients(ctx: Any, d_hidden: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    weight, lengths, hidden, saved = ctx.saved_tensors
    channels = hidden.shape[3]
    d_gates = gru_backward(d_hidden, weight, lengths, hidden, saved)
    d_state = d_gates[..., channels:]
    d_weights = []
    for i in range(weight.shape[0]):
        d, h = (
            (d_state[:, :-1, i], hidden[:, 1:, i]) if i else (d_state[:, 1:, i], hidden[:, :-1, i])
        )
        d_weights.append(state_gradients(d, h))
    d_bias = d_gates[..., 3 * channels :].sum((0, 1), dtype=torch.float32).to(ctx.bias_dtype)
    return d_gates[..., : 3 * channels], torch.stack(d_weights), d_bias, None


gru.register_autograd(_gradients, setup_context=_setup)
