"""The backward pass of the attention loop in `attention.py`.

One kernel goes back through the steps; a second one forms the gradients of keys, energy and
filters, which need no recurrence, for all symbols at once.

B batch, L steps, S symbols, H hidden channels, A attention channels, K filter width, P filter width
padded to a power of 2.
"""

# ruff: noqa: N803 (sizes keep their letters)
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from tacoskip.kernels.triton.energies import LEAST, hidden_energy, previous, sizes_of, windows
from tacoskip.kernels.triton.gru import cell_backward, dot, dot_rows, operator


@triton.jit(do_not_specialize=["B", "L", "S"])
def _backward(
    d_hidden, d_weights, mixed, keys, w, query, energy, filters, hidden, weights, saved, queries,
    totals, d_gates, d_queries, d_logits, d_last, d_total, d_windows, B, L, S,
    H: tl.constexpr, BH: tl.constexpr, A: tl.constexpr, BA: tl.constexpr,
    K: tl.constexpr, P: tl.constexpr, SP: tl.constexpr, BS: tl.constexpr, BK: tl.constexpr,
    ROWS: tl.constexpr, R: tl.constexpr, RECURSION: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * R
    lane = tl.arange(0, ROWS)
    rows = (first + lane).to(tl.int64)
    real = (lane < R) & (rows < B)
    n, a, whole = tl.arange(0, BH), tl.arange(0, BA), tl.arange(0, SP)
    ok = real[:, None] & (n < H)[None, :]
    v = tl.load(energy + a, mask=a < A, other=0.0).to(tl.float32)
    d_h = tl.zeros((ROWS, BH), tl.float32)
    for back in range(L):
        t = L - 1 - back
        for i in range(tl.minimum(R, B - first)):
            row = (first + i).to(tl.int64)
            here = row * L + t
            later = d_gates + (here + 1) * (4 * H) + n  # of the step that saw this context
            ok_n = (n < H) & (back > 0)
            g_n = tl.load(later, mask=ok_n, other=0.0).to(tl.float32)[None, :]
            g_r = tl.load(later + H, mask=ok_n, other=0.0).to(tl.float32)[None, :]
            g_z = tl.load(later + 2 * H, mask=ok_n, other=0.0).to(tl.float32)[None, :]
            for s0 in range(0, S, BS):
                s = s0 + tl.arange(0, BS)
                place = mixed + (row * S + s)[:, None] * (3 * H) + n[None, :]
                within = (s < S)[:, None] & (n < H)[None, :]
                d_mix = g_n * tl.load(place, mask=within, other=0.0).to(tl.float32)
                d_mix += g_r * tl.load(place + H, mask=within, other=0.0).to(tl.float32)
                d_mix += g_z * tl.load(place + 2 * H, mask=within, other=0.0).to(tl.float32)
                d_w = tl.sum(d_mix, 1) + tl.load(d_weights + here * S + s, mask=s < S, other=0.0)
                d_w += tl.load(d_last + row * S + s, mask=s < S, other=0.0)
                d_w += tl.load(d_total + row * S + s, mask=s < S, other=0.0)
                tl.store(d_logits + here * S + s, d_w, mask=s < S)
            tl.debug_barrier()
            full = tl.load(weights + here * S + whole, mask=whole < S, other=0.0)
            d_full = tl.load(d_logits + here * S + whole, mask=whole < S, other=0.0)
            d_full = full * (d_full - tl.sum(full * d_full, 0))
            tl.debug_barrier()
            tl.store(d_logits + here * S + whole, d_full, mask=whole < S)
            tl.debug_barrier()
            if RECURSION:
                last = previous(weights, here, t, whole, S)
                reach = last + previous(weights, here, t, whole - 1, S)
                d_full = tl.where(reach >= LEAST, d_full / tl.maximum(reach, LEAST), 0.0)
                reach = last + previous(weights, here, t, whole + 1, S)
                ahead = d_logits + here * S + whole + 1
                ahead = tl.load(ahead, mask=whole + 1 < S, other=0.0)
                d_full += tl.where(reach >= LEAST, ahead / tl.maximum(reach, LEAST), 0.0)
                tl.store(d_last + row * S + whole, d_full, mask=whole < S)
            q_row = tl.load(queries + here * A + a, mask=a < A, other=0.0).to(tl.float32)
            d_q = tl.zeros((BA,), tl.float32)
            for s0 in range(0, S, BS):
                s = s0 + tl.arange(0, BS)
                seen = 0.0
                if P > 0:
                    seen = windows(weights, totals + here * S, here, t, s, S, K, P)
                u = hidden_energy(keys, q_row, filters, seen, row, s, S, A, BA, P)
                d = tl.load(d_logits + here * S + s, mask=s < S, other=0.0)
                d_u = d[:, None] * v[None, :] * (1 - u * u)
                d_q += tl.sum(d_u, 0)
                if P > 0:
                    j = tl.arange(0, 2 * P)
                    mix = filters + a[:, None] * (2 * P) + j[None, :]
                    mix = tl.load(mix, mask=(a < A)[:, None] & (j >= 0)[None, :], other=0.0)
                    d_windowed = dot(d_u.to(mix.dtype), mix, tl.zeros((BS, 2 * P), tl.float32))
                    place = d_windows + (row * S + s)[:, None] * (2 * P) + j[None, :]
                    tl.store(place, d_windowed, mask=(s < S)[:, None] & (j >= 0)[None, :])
            d_query = d_queries + here * A + a
            tl.store(d_query, d_q.to(d_queries.dtype.element_ty), mask=a < A)
            if P > 0:
                tl.debug_barrier()
                for s0 in range(0, S, BS):
                    s = s0 + tl.arange(0, BS)
                    d_seen = gather_windows(d_windows + row * S * (2 * P), s, S, K, P)
                    place = d_last + row * S + s
                    if RECURSION:
                        d_seen += tl.load(place, mask=s < S, other=0.0)
                    tl.store(place, d_seen, mask=s < S)
                    place = d_total + row * S + s
                    d_seen = gather_windows(d_windows + row * S * (2 * P) + P, s, S, K, P)
                    tl.store(place, d_seen + tl.load(place, mask=s < S, other=0.0), mask=s < S)
        tl.debug_barrier()
        at = rows * L + t
        out = at[:, None] * H + n[None, :]
        d_h += tl.load(d_hidden + out, mask=ok, other=0.0).to(tl.float32)
        d_h += dot_rows(d_queries + at * A, query, real, A, H, BK, BH)
        before = tl.load(hidden + out - H, mask=ok & (t > 0), other=0.0).to(tl.float32)
        kept = saved + at[:, None] * (4 * H) + n[None, :]
        gates = d_gates + at[:, None] * (4 * H) + n[None, :]
        _, _, _, d_h = cell_backward(d_h, kept, gates, before, ok, ok, H)
        tl.debug_barrier()
        d_h += dot_rows(d_gates + at * (4 * H) + H, w, real, 3 * H, H, BK, BH)


@triton.jit
def gather_windows(d_windows, s, S, K: tl.constexpr, P: tl.constexpr):
    """The reverse of one channel of `windows`: the gradient at symbols s."""
    k = tl.arange(0, P)
    at = s[:, None] - k[None, :] + K // 2
    ok = (k < K)[None, :] & (at >= 0) & (at < S)
    return tl.sum(tl.load(d_windows + at * (2 * P) + k[None, :], mask=ok, other=0.0), 1)


@triton.jit(do_not_specialize=["L", "S"])
def _backward_keys(
    d_logits, keys, energy, filters, weights, queries, totals, d_keys, d_energy, d_filters, L, S,
    A: tl.constexpr, BA: tl.constexpr, K: tl.constexpr, P: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    s, a = block * BS + tl.arange(0, BS), tl.arange(0, BA)
    v = tl.load(energy + a, mask=a < A, other=0.0).to(tl.float32)
    d_k, d_v = tl.zeros((BS, BA), tl.float32), tl.zeros((BS, BA), tl.float32)
    if P > 0:
        d_mix = tl.zeros((BA, 2 * P), tl.float32)
    for t in range(L):
        here = row * L + t
        q = tl.load(queries + here * A + a, mask=a < A, other=0.0).to(tl.float32)
        seen = 0.0
        if P > 0:
            seen = windows(weights, totals + here * S, here, t, s, S, K, P)
        u = hidden_energy(keys, q, filters, seen, row, s, S, A, BA, P)
        d = tl.load(d_logits + here * S + s, mask=s < S, other=0.0)[:, None]
        d_v += d * u
        d_u = d * v[None, :] * (1 - u * u)
        d_k += d_u
        if P > 0:
            kind = filters.dtype.element_ty
            d_mix = dot(tl.trans(d_u).to(kind), seen.to(kind), d_mix)  # type: ignore[attr-defined]
    place = d_keys + (row * S + s)[:, None] * A + a[None, :]
    within = (s < S)[:, None] & (a < A)[None, :]
    tl.store(place, d_k.to(d_keys.dtype.element_ty), mask=within)
    program = row * tl.num_programs(1) + block
    tl.store(d_energy + program * A + a, tl.sum(d_v, 0), mask=a < A)
    if P > 0:
        j = tl.arange(0, 2 * P)
        place = d_filters + (program * A + a)[:, None] * (2 * P) + j[None, :]
        tl.store(place, d_mix, mask=(a < A)[:, None] & (j >= 0)[None, :])


def _empty(
    d_hidden: Tensor, d_weights: Tensor, constants: list[Tensor], results: list[Tensor], *_: Any
) -> tuple[Tensor, ...]:
    likes = results[2], results[3], constants[1], constants[4], constants[5]
    return tuple(torch.empty_like(x) for x in likes)


@operator("attention_backward", _empty)
def attention_backward(
    d_hidden: Tensor,
    d_weights: Tensor,
    constants: list[Tensor],
    results: list[Tensor],
    width: int,
    recursion: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of gates (B, L, 4 H), queries (B, L, A), keys, energy and filters."""
    mixed, keys, weight, query, energy, filters = (x.contiguous() for x in constants)
    hidden, weights, saved, queries = results
    batch, steps, symbols = weights.shape
    sizes = sizes_of(keys, hidden.shape[2], filters, width)
    totals = weights.cumsum(1) - weights if width else weights
    d_gates, d_queries, d_logits = (torch.empty_like(x) for x in (saved, queries, weights))
    d_last, d_total = weights.new_zeros(2, batch, symbols)
    d_windows = weights.new_empty(batch, symbols, filters.shape[1])
    _backward[(triton.cdiv(batch, sizes["R"]),)](
        d_hidden.contiguous(), d_weights.contiguous(), mixed, keys, weight, query, energy, filters,
        *results, totals, d_gates, d_queries, d_logits, d_last, d_total, d_windows,
        batch, steps, symbols, **sizes, RECURSION=recursion, num_warps=8,
        num_stages=3 if keys.element_size() == 2 else 1,
    )  # fmt: skip
    blocks = triton.cdiv(symbols, 16)
    d_keys = torch.empty_like(keys)
    d_energy = weights.new_empty(batch, blocks, len(energy))
    d_filters = weights.new_empty(batch, blocks, *filters.shape)
    _backward_keys[(batch, blocks)](
        d_logits, keys, energy, filters, weights, queries, totals, d_keys, d_energy, d_filters,
        steps, symbols, sizes["A"], sizes["BA"], width, sizes["P"], 16, num_warps=8,
    )  # fmt: skip
    d_energy = d_energy.sum((0, 1)).to(energy.dtype)
    return d_gates, d_queries, d_keys, d_energy, d_filters.sum((0, 1)).to(energy.dtype)
