"""The backward pass of the attention loop in `attention.py`.

One kernel goes back through the steps; a second one forms the gradients of keys, energy and
filters, which need no recurrence, for all symbols at once. Sizes and history: see `energies`.
"""

# ruff: noqa: N803 (sizes keep their letters)
import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from tacoskip.kernels.triton.energies import (
    ALL,
    ATTENTION,
    LEAST,
    RECURRENT,
    first_of_16,
    group_rows,
    hidden_energy,
    launch,
    load_filters,
    product,
    sizes_of,
    wait,
    windows,
)
from tacoskip.kernels.triton.gru import cell_backward, dot


@triton.jit
def _weight_gradients(tensors, row, t, L, S, SZ: tl.constexpr):
    """Store the gradients of one row's energies; add what the recursion passes on to `d_past`."""
    incoming, constants, results, gradients, scratch = tensors
    mixed, _, _, _ = constants
    _, d_history = incoming
    d_gates, _, d_logits = gradients
    _, d_past, _ = scratch
    here, whole = row * L + t, tl.arange(0, SZ.SP)
    past = results[1] + (row * (L + 1) + t) * (SZ.N * S)
    weights, d_weights = past + SZ.N * S, d_history + (row * (L + 1) + t + 1) * (SZ.N * S)
    d_logits += here * S
    d_last = d_past + row * (2 * S)
    later = d_gates + (here + 1) * (4 * SZ.H)  # of the step that saw this context
    for s0 in range(0, S, SZ.BS):
        s = s0 + tl.arange(0, SZ.BS)
        acc = tl.zeros((SZ.BS, 16), tl.float32)
        for k0 in range(0, 3 * SZ.H, SZ.BN):
            k = k0 + tl.arange(0, SZ.BN)
            within = (s < S)[:, None] & (k < 3 * SZ.H)[None, :]
            place = mixed + (row * S + s)[:, None] * (3 * SZ.H) + k[None, :]
            m = tl.load(place, mask=within, other=0.0)
            ok = (k < 3 * SZ.H) & (t + 1 < L)
            g = tl.load(later + k, mask=ok, other=0.0, cache_modifier=".cg")
            acc = dot(m, first_of_16(g, 1).to(m.dtype), acc)
        d_w = tl.sum(acc, 1) + tl.load(d_weights + s, mask=s < S, other=0.0)
        if SZ.P > 0:
            d_w += tl.load(d_last + s, mask=s < S, other=0.0)
            d_w += tl.load(d_last + S + s, mask=s < S, other=0.0)
        tl.store(d_logits + s, d_w, mask=s < S)
    tl.debug_barrier()
    full = tl.load(weights + whole, mask=whole < S, other=0.0)
    d_full = tl.load(d_logits + whole, mask=whole < S, other=0.0)
    d_full = full * (d_full - tl.sum(full * d_full, 0))
    tl.debug_barrier()
    tl.store(d_logits + whole, d_full, mask=whole < S)
    tl.debug_barrier()
    if SZ.RECURSION:
        last = tl.load(past + whole, mask=whole < S, other=0.0)
        reach = last + tl.load(past + whole - 1, mask=(whole > 0) & (whole <= S), other=0.0)
        d_full = tl.where(reach >= LEAST, d_full / tl.maximum(reach, LEAST), 0.0)
        reach = last + tl.load(past + whole + 1, mask=whole + 1 < S, other=0.0)
        ahead = tl.load(d_logits + whole + 1, mask=whole + 1 < S, other=0.0)
        d_full += tl.where(reach >= LEAST, ahead / tl.maximum(reach, LEAST), 0.0)
        tl.store(d_last + whole, d_full, mask=whole < S)


@triton.jit
def _energy_gradients(tensors, row, t, L, S, SZ: tl.constexpr):
    """Store the gradient of one row's query, and pass that of the windows on to `d_past`."""
    _, constants, results, gradients, scratch = tensors
    _, keys, energy, filters = constants
    _, history, _, queries = results
    _, d_queries, d_logits = gradients
    _, d_past, d_windows = scratch
    a, here = tl.arange(0, SZ.BA), row * L + t
    past = history + (row * (L + 1) + t) * (SZ.N * S)
    d_windows += row * S * (2 * SZ.P)
    v = tl.load(energy + a, mask=a < SZ.A, other=0.0).to(tl.float32)
    q = tl.load(queries + here * SZ.A + a, mask=a < SZ.A, other=0.0).to(tl.float32)
    d_q = tl.zeros((SZ.BA,), tl.float32)
    for s0 in range(0, S, SZ.BS):
        s = s0 + tl.arange(0, SZ.BS)
        seen = 0.0
        if SZ.P > 0:
            seen = windows(past, s, S, SZ.K, SZ.P)
        u = hidden_energy(keys, q, filters, seen, row, s, S, SZ)
        d = tl.load(d_logits + here * S + s, mask=s < S, other=0.0)
        d_u = d[:, None] * v[None, :] * (1 - u * u)
        d_q += tl.sum(d_u, 0)
        if SZ.P > 0:
            j = tl.arange(0, 2 * SZ.P)
            mix = load_filters(filters, SZ.A, SZ.BA, SZ.P)
            d_seen = dot(d_u.to(mix.dtype), mix, tl.zeros((SZ.BS, 2 * SZ.P), tl.float32))
            place = d_windows + s[:, None] * (2 * SZ.P) + j[None, :]
            tl.store(place, d_seen, mask=(s < S)[:, None] & (j >= 0)[None, :])
    tl.store(d_queries + here * SZ.A + a, d_q.to(queries.dtype.element_ty), mask=a < SZ.A)
    if SZ.P > 0:
        tl.debug_barrier()
        for s0 in range(0, S, SZ.BS):
            s = s0 + tl.arange(0, SZ.BS)
            d_last = d_past + row * (2 * S) + s
            d_seen = gather_windows(d_windows, s, S, SZ.K, SZ.P)
            if SZ.RECURSION:
                d_seen += tl.load(d_last, mask=s < S, other=0.0)
            tl.store(d_last, d_seen, mask=s < S)
            d_seen = gather_windows(d_windows + SZ.P, s, S, SZ.K, SZ.P)
            d_seen += tl.load(d_last + S, mask=s < S, other=0.0)
            tl.store(d_last + S, d_seen, mask=s < S)


@triton.jit
def gather_windows(d_windows, s, S, K: tl.constexpr, P: tl.constexpr):
    """The reverse of one channel of `windows`: the gradient at symbols s."""
    k = tl.arange(0, P)
    at = s[:, None] - k[None, :] + K // 2
    ok = (k < K)[None, :] & (at >= 0) & (at < S)
    return tl.sum(tl.load(d_windows + at * (2 * P) + k[None, :], mask=ok, other=0.0), 1)


@triton.jit
def _retreat(tensors, weights, group, part, t, B, L, R, SZ: tl.constexpr):
    """Go back through one step of a slice of the GRU."""
    incoming, _, results, gradients, scratch = tensors
    d_hidden, _ = incoming
    hidden, _, saved, _ = results
    d_gates, d_queries, _ = gradients
    carry, _, _ = scratch
    w, query = weights
    rows, real = group_rows(group, B, R, SZ)
    n = part * SZ.U + tl.arange(0, SZ.U)
    ok = real[:, None] & (n < SZ.H)[None, :]
    at = rows * L + t
    out = at[:, None] * SZ.H + n[None, :]
    kept = carry + rows[:, None] * SZ.H + n[None, :]
    d_h = tl.load(kept, mask=ok, other=0.0)
    d_h += tl.load(d_hidden + out, mask=ok, other=0.0).to(tl.float32)
    query += part * (SZ.A * SZ.U)
    d_h += product(d_queries + at * SZ.A, real, query, SZ.A, SZ.U, SZ.BN, SZ.ROWS)
    w += part * (3 * SZ.H * SZ.U)
    later = d_gates + (at + 1) * (4 * SZ.H) + SZ.H
    d_h += product(later, real & (t + 1 < L), w, 3 * SZ.H, SZ.U, SZ.BN, SZ.ROWS)
    before = tl.load(hidden + out - SZ.H, mask=ok & (t > 0), other=0.0).to(tl.float32)
    step = saved + at[:, None] * (4 * SZ.H) + n[None, :]
    gates = d_gates + at[:, None] * (4 * SZ.H) + n[None, :]
    _, _, _, d_h = cell_backward(d_h, step, gates, before, ok, ok, SZ.H)
    tl.store(kept, d_h, mask=ok)


@triton.jit(do_not_specialize=["B", "L", "S", "R", "first", "last"])
def _backward(tensors, counters, B, L, S, R, first, last, SZ: tl.constexpr, PHASE: tl.constexpr):
    loop, weights = tensors
    group, part = tl.program_id(0) // SZ.C, tl.program_id(0) % SZ.C
    counter = counters + group * 32
    for back in range(first, last):
        t = L - 1 - back
        if PHASE != RECURRENT:
            for i in range(part, tl.minimum(R, B - group * R), SZ.C):
                row = (group * R + i).to(tl.int64)
                _weight_gradients(loop, row, t, L, S, SZ)
                tl.debug_barrier()
                _energy_gradients(loop, row, t, L, S, SZ)
        if PHASE == ALL:
            wait(counter, (2 * back + 1) * SZ.C, SZ.C)
        if PHASE != ATTENTION:
            _retreat(loop, weights, group, part, t, B, L, R, SZ)
        if PHASE == ALL:
            wait(counter, (2 * back + 2) * SZ.C, SZ.C)


@triton.jit(do_not_specialize=["L", "S"])
def _backward_keys(tensors, outputs, L, S, SZ: tl.constexpr, BS: tl.constexpr):
    """Gradients of keys, energy and filters from a block of symbols of one row."""
    d_logits, keys, energy, filters, history, queries = tensors
    d_keys, d_energy, d_filters = outputs
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    s, a = block * BS + tl.arange(0, BS), tl.arange(0, SZ.BA)
    v = tl.load(energy + a, mask=a < SZ.A, other=0.0).to(tl.float32)
    d_k, d_v = tl.zeros((BS, SZ.BA), tl.float32), tl.zeros((BS, SZ.BA), tl.float32)
    if SZ.P > 0:
        d_mix = tl.zeros((SZ.BA, 2 * SZ.P), tl.float32)
    for t in range(L):
        here = row * L + t
        q = tl.load(queries + here * SZ.A + a, mask=a < SZ.A, other=0.0).to(tl.float32)
        seen = 0.0
        if SZ.P > 0:
            seen = windows(history + (row * (L + 1) + t) * (SZ.N * S), s, S, SZ.K, SZ.P)
        u = hidden_energy(keys, q, filters, seen, row, s, S, SZ)
        d = tl.load(d_logits + here * S + s, mask=s < S, other=0.0)[:, None]
        d_v += d * u
        d_u = d * v[None, :] * (1 - u * u)
        d_k += d_u
        if SZ.P > 0:
            kind = filters.dtype.element_ty
            d_mix = dot(tl.trans(d_u).to(kind), seen.to(kind), d_mix)  # type: ignore[attr-defined]
    place = d_keys + (row * S + s)[:, None] * SZ.A + a[None, :]
    within = (s < S)[:, None] & (a < SZ.A)[None, :]
    tl.store(place, d_k.to(d_keys.dtype.element_ty), mask=within)
    program = row * tl.num_programs(1) + block
    tl.store(d_energy + program * SZ.A + a, tl.sum(d_v, 0), mask=a < SZ.A)
    if SZ.P > 0:
        j = tl.arange(0, 2 * SZ.P)
        place = d_filters + (program * SZ.A + a)[:, None] * (2 * SZ.P) + j[None, :]
        tl.store(place, d_mix, mask=(a < SZ.A)[:, None] & (j >= 0)[None, :])


@torch.library.custom_op("tacoskip::triton_attention_backward", mutates_args=())
def attention_backward(
    d_hidden: Tensor,
    d_history: Tensor,
    constants: list[Tensor],
    results: list[Tensor],
    width: int,
    recursion: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of gates (B, L, 4 H), queries (B, L, A), keys, energy and filters."""
    mixed, keys, weight, query, energy, filters = (x.contiguous() for x in constants)
    hidden, history, saved, queries = results
    batch, steps, channels = hidden.shape
    symbols = keys.shape[1]
    sizes, rows = sizes_of(keys, channels, width, filters, recursion)
    d_gates, d_queries = torch.empty_like(saved), torch.empty_like(queries)
    d_logits = history.new_empty(batch, steps, symbols)
    scratch = (
        history.new_zeros(batch, channels),
        history.new_zeros(batch, 2, symbols),
        history.new_empty(batch, symbols, filters.shape[1]),
    )
    slices = [  # (C, inputs, U): columns of each program's hidden channels
        functional.pad(x, (0, sizes.BH - channels)).unflatten(1, (sizes.C, -1)).transpose(0, 1)
        for x in (weight, query)
    ]
    loop = (
        (d_hidden.contiguous(), d_history.contiguous()),
        (mixed, keys, energy, filters),
        tuple(results),
        (d_gates, d_queries, d_logits),
        scratch,
    )
    tensors = (loop, tuple(x.contiguous() for x in slices))
    launch(_backward, tensors, (batch, steps, symbols, rows), sizes, [ATTENTION, RECURRENT], keys)
    blocks = triton.cdiv(symbols, 16)
    d_keys = torch.empty_like(keys)
    d_energy = history.new_empty(batch, blocks, len(energy))
    d_filters = history.new_empty(batch, blocks, *filters.shape)
    _backward_keys[(batch, blocks)](
        (d_logits, keys, energy, filters, history, queries), (d_keys, d_energy, d_filters),
        steps, symbols, sizes, 16, num_warps=8,
    )  # fmt: skip
    d_energy, d_filters = (x.sum((0, 1)).to(energy.dtype) for x in (d_energy, d_filters))
    return d_gates, d_queries, d_keys, d_energy, d_filters


@attention_backward.register_fake
def _(
    d_hidden: Tensor,
    d_history: Tensor,
    constants: list[Tensor],
    results: list[Tensor],
    width: int,
    recursion: bool,
) -> tuple[Tensor, ...]:
    _, keys, _, _, energy, filters = constants
    return tuple(torch.empty_like(x) for x in (results[2], results[3], keys, energy, filters))
