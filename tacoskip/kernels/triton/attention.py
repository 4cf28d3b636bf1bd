"""A persistent attention loop for GPUs: all decoder steps under teacher forcing in one launch.

Serves additive attention (`bahdanau`), location-sensitive attention and forward attention. One
program runs R batch rows, 1 to 16. The context enters the GRU through `mixed` = memory times the
GRU's context weights, so contexts themselves are one matrix product after the loop. The gradient of
keys, energy and filters needs no recurrence: a second kernel forms it for all symbols at once.

B batch, L steps, S symbols, H hidden channels, A attention channels, K filter width, P filter width
padded to a power of 2. Gates are ordered as in `gru`.
"""

# ruff: noqa: N803 (sizes keep their letters)
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from tacoskip.kernels.triton.gru import (
    ROWS,
    cell,
    cell_backward,
    dot,
    dot_gates,
    dot_rows,
    state_gradients,
    tanh,
)

LEAST = tl.constexpr(1e-12)  # weight from which a symbol counts as within reach


@triton.jit
def zeros(N: tl.constexpr):
    return tl.zeros((N,), tl.float32)


@triton.jit
def previous(weights, here, t, s, S):
    """Weights of step t - 1 at symbols s; before the first step all lies on symbol 0."""
    ok = (s >= 0) & (s < S) & (t > 0)
    last = tl.load(weights + (here - 1) * S + s, mask=ok, other=0.0)
    return tl.where((t == 0) & (s == 0), 1.0, last)


@triton.jit
def windows(weights, totals, here, t, s, S, K: tl.constexpr, P: tl.constexpr):
    """What the filters see around symbols s: last weights and summed weights (s, 2 P)."""
    j = tl.arange(0, 2 * P)
    k = j % P
    at = s[:, None] + k[None, :] - K // 2
    ok = (k < K)[None, :] & (at >= 0) & (at < S)
    old, summed = ok & (j < P)[None, :], ok & (j >= P)[None, :]
    last = tl.load(weights + (here - 1) * S + at, mask=old & (t > 0), other=0.0)
    last = tl.where(old & (at == 0) & (t == 0), 1.0, last)
    return last + tl.load(totals + at, mask=summed, other=0.0)


@triton.jit
def hidden_energy(
    keys, q, filters, seen, row, s, S, A: tl.constexpr, BA: tl.constexpr, P: tl.constexpr
):
    """tanh(query + key + location) at symbols s (s, A); seen: what `windows` gives."""
    a = tl.arange(0, BA)
    within = (s < S)[:, None] & (a < A)[None, :]
    x = tl.load(keys + (row * S + s)[:, None] * A + a[None, :], mask=within, other=0.0)
    x = x.to(tl.float32) + q[None, :]
    if P > 0:
        j = tl.arange(0, 2 * P)
        mix = filters + a[None, :] * (2 * P) + j[:, None]
        mix = tl.load(mix, mask=(a < A)[None, :] & (j >= 0)[:, None], other=0.0)
        x = dot(seen.to(mix.dtype), mix, x)
    return tanh(x)


@triton.jit(do_not_specialize=["B", "L", "S"])
def _forward(
    inputs, mixed, keys, w, bias, query, query_bias, energy, filters, lengths,
    hidden, weights, saved, queries, totals, context, B, L, S,
    H: tl.constexpr, BH: tl.constexpr, A: tl.constexpr, BA: tl.constexpr,
    K: tl.constexpr, P: tl.constexpr, SP: tl.constexpr, BS: tl.constexpr, BK: tl.constexpr,
    ROWS: tl.constexpr, R: tl.constexpr, RECURSION: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * R
    lane = tl.arange(0, ROWS)
    rows = (first + lane).to(tl.int64)
    real = (lane < R) & (rows < B)
    n, a, whole = tl.arange(0, BH), tl.arange(0, BA), tl.arange(0, SP)
    ok, ok_a = real[:, None] & (n < H)[None, :], real[:, None] & (a < A)[None, :]
    added_bias = tl.load(bias + n, mask=n < H, other=0.0).to(tl.float32)
    q_bias = tl.load(query_bias + a, mask=a < A, other=0.0).to(tl.float32)
    v = tl.load(energy + a, mask=a < A, other=0.0).to(tl.float32)
    h = tl.zeros((ROWS, BH), tl.float32)
    r, z, added = h, h, h + added_bias[None, :]
    for t in range(L):
        at = rows * L + t
        mix = context + rows[:, None] * (3 * H) + n[None, :]
        c = tl.load(mix, mask=ok, other=0.0)
        r += tl.load(mix + H, mask=ok, other=0.0)
        z += tl.load(mix + 2 * H, mask=ok, other=0.0)
        gates = inputs + at[:, None] * (3 * H) + n[None, :]
        kept = saved + at[:, None] * (4 * H) + n[None, :]
        h = cell(gates, kept, h, c, r, z, added, ok, H)
        out = hidden + at[:, None] * H + n[None, :]
        tl.store(out, h.to(hidden.dtype.element_ty), mask=ok)
        tl.debug_barrier()
        r, z, added = dot_gates(hidden + at * H, w, real, H, BK, BH)
        added += added_bias[None, :]
        q = dot_rows(hidden + at * H, query, real, H, A, BK, BA) + q_bias[None, :]
        asked = queries + at[:, None] * A + a[None, :]
        tl.store(asked, q.to(queries.dtype.element_ty), mask=ok_a)
        tl.debug_barrier()
        for i in range(tl.minimum(R, B - first)):
            row = (first + i).to(tl.int64)
            here = row * L + t
            q_row = tl.load(queries + here * A + a, mask=a < A, other=0.0).to(tl.float32)
            for s0 in range(0, S, BS):
                s = s0 + tl.arange(0, BS)
                seen = 0.0
                if P > 0:
                    seen = windows(weights, totals + row * S, here, t, s, S, K, P)
                u = hidden_energy(keys, q_row, filters, seen, row, s, S, A, BA, P)
                tl.store(weights + here * S + s, tl.sum(u * v[None, :], 1), mask=s < S)
            tl.debug_barrier()
            length = tl.load(lengths + row)
            e = tl.load(weights + here * S + whole, mask=whole < length, other=-float("inf"))
            if RECURSION:
                reach = previous(weights, here, t, whole, S)
                reach += previous(weights, here, t, whole - 1, S)
                logs = tl.log(tl.maximum(reach, LEAST))
                e = tl.where(reach > 0, e + logs, -float("inf"))
            e = tl.exp(e - tl.max(e, 0))
            e = e / tl.sum(e, 0)
            tl.debug_barrier()
            tl.store(weights + here * S + whole, e, mask=whole < S)
            if P > 0:
                total = totals + row * S + whole
                tl.store(total, tl.load(total, mask=whole < S, other=0.0) + e, mask=whole < S)
            tl.debug_barrier()
            c_n, c_r, c_z = zeros(BH), zeros(BH), zeros(BH)
            for s0 in range(0, S, BS):
                s = s0 + tl.arange(0, BS)
                p = tl.load(weights + here * S + s, mask=s < S, other=0.0)[:, None]
                place = mixed + (row * S + s)[:, None] * (3 * H) + n[None, :]
                within = (s < S)[:, None] & (n < H)[None, :]
                c_n += tl.sum(p * tl.load(place, mask=within, other=0.0).to(tl.float32), 0)
                c_r += tl.sum(p * tl.load(place + H, mask=within, other=0.0).to(tl.float32), 0)
                c_z += tl.sum(p * tl.load(place + 2 * H, mask=within, other=0.0).to(tl.float32), 0)
            mix_row = context + row * (3 * H) + n
            tl.store(mix_row, c_n, mask=n < H)
            tl.store(mix_row + H, c_r, mask=n < H)
            tl.store(mix_row + 2 * H, c_z, mask=n < H)
        tl.debug_barrier()


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
            d_q = zeros(BA)
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


def _sizes(keys: Tensor, hidden_size: int, filters: Tensor, width: int) -> dict[str, Any]:
    batch, symbols, channels = keys.shape
    return {
        "H": hidden_size,
        "BH": max(16, triton.next_power_of_2(hidden_size)),
        "A": channels,
        "BA": max(16, triton.next_power_of_2(channels)),
        "K": width,
        "P": filters.shape[1] // 2,
        "SP": max(16, triton.next_power_of_2(symbols)),
        "BS": 32 if keys.element_size() == 2 else 16,
        "BK": 64 if keys.element_size() == 2 else 32,
        "ROWS": ROWS,
        "R": min(ROWS, triton.next_power_of_2(triton.cdiv(batch, 128))),
    }


@torch.library.custom_op("tacoskip::triton_attention", mutates_args=())
def attention_loop(
    inputs: Tensor,
    mixed: Tensor,
    keys: Tensor,
    parameters: list[Tensor],
    lengths: Tensor,
    width: int,
    recursion: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the attention GRU and the attention over all steps, from zeros.

    Args:
        inputs: (B, L, 3 H) gates of the previous frames, with all biases but that of the state's n.
        mixed: (B, S, 3 H) memory times the GRU's context weights.
        keys: (B, S, A).
        parameters: of the state (3 H, H) and its n (H,), query (A, H) and its bias (A,), energy
            (A,), location filters (A, 2 P) over the last and the summed weights or (A, 0).
        lengths: (B,) symbols of each item.
        width: K.
        recursion: forward attention.

    Returns:
        States (B, L, H), attention weights (B, L, S) in float32, and for the gradient (B, L, 4 H)
        and queries (B, L, A).
    """
    weight, bias, query, query_bias, energy, filters = parameters
    batch, steps, symbols = len(inputs), inputs.shape[1], keys.shape[1]
    channels = weight.shape[1]
    hidden, saved = (
        inputs.new_empty(batch, steps, channels),
        inputs.new_empty(batch, steps, 4 * channels),
    )
    queries = inputs.new_empty(batch, steps, keys.shape[2])
    weights = inputs.new_empty(batch, steps, symbols, dtype=torch.float32)
    totals = inputs.new_zeros(batch, symbols, dtype=torch.float32)
    context = inputs.new_zeros(batch, 3 * channels, dtype=torch.float32)
    sizes = _sizes(keys, channels, filters, width)
    given = [inputs, mixed, keys, weight, bias, query.t(), query_bias, energy, filters, lengths]
    _forward[(triton.cdiv(batch, sizes["R"]),)](
        *(x.contiguous() for x in given), hidden, weights, saved, queries, totals, context,
        batch, steps, symbols, **sizes, RECURSION=recursion, num_warps=8,
        num_stages=3 if keys.element_size() == 2 else 1,
    )  # fmt: skip
    return hidden, weights, saved, queries


@attention_loop.register_fake
def _(
    inputs: Tensor,
    mixed: Tensor,
    keys: Tensor,
    parameters: list[Tensor],
    lengths: Tensor,
    width: int,
    recursion: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, channels = inputs.shape[:2], parameters[0].shape[1]
    weights = inputs.new_empty(*rows, keys.shape[1], dtype=torch.float32)
    saved, queries = inputs.new_empty(*rows, 4 * channels), inputs.new_empty(*rows, keys.shape[2])
    return inputs.new_empty(*rows, channels), weights, saved, queries


@torch.library.custom_op("tacoskip::triton_attention_backward", mutates_args=())
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
    sizes = _sizes(keys, hidden.shape[2], filters, width)
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
    d_energy, d_filters = (x.sum((0, 1)).to(energy.dtype) for x in (d_energy, d_filters))
    return d_gates, d_queries, d_keys, d_energy, d_filters


@attention_backward.register_fake
def _(
    d_hidden: Tensor,
    d_weights: Tensor,
    constants: list[Tensor],
    results: list[Tensor],
    width: int,
    recursion: bool,
) -> tuple[Tensor, ...]:
    _, keys, _, _, energy, filters = constants
    return tuple(torch.empty_like(x) for x in (results[2], results[3], keys, energy, filters))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, mixed, keys, parameters, _, ctx.width, ctx.recursion = inputs
    weight, _, query, _, energy, filters = parameters
    ctx.save_for_backward(mixed, keys, weight, query, energy, filters, *output)
    ctx.mark_non_differentiable(*output[2:])


def _gradients(ctx: Any, d_hidden: Tensor, d_weights: Tensor, *_: Any) -> tuple[Any, ...]:
    constants, results = ctx.saved_tensors[:6], ctx.saved_tensors[6:]
    hidden, weights, channels = results[0], results[1], results[0].shape[2]
    d_gates, d_queries, d_keys, d_energy, d_filters = attention_backward(
        d_hidden, d_weights, list(constants), list(results), ctx.width, ctx.recursion
    )
    d_inputs, d_state = d_gates[..., : 3 * channels], d_gates[..., channels:]
    d_mixed = weights[:, :-1].transpose(1, 2).to(d_gates.dtype) @ d_inputs[:, 1:]
    d_weight = state_gradients(d_state[:, 1:], hidden[:, :-1])
    d_bias = d_state[..., 2 * channels :].sum((0, 1))
    d_query = state_gradients(d_queries, hidden)
    d_query_bias = d_queries.sum((0, 1))
    d_parameters = [d_weight, d_bias, d_query, d_query_bias, d_energy, d_filters]
    return d_inputs, d_mixed, d_keys, d_parameters, None, None, None


attention_loop.register_autograd(_gradients, setup_context=_setup)
