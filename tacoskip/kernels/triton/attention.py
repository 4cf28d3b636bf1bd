"""A persistent attention loop for GPUs: all decoder steps under teacher forcing in one launch.

Serves additive attention (`bahdanau`), location-sensitive attention and forward attention. The
context enters the GRU through `mixed` = memory times the GRU's context weights, so contexts
themselves are one matrix product after the loop. The gradient of keys, energy and filters needs no
recurrence: a kernel of its own forms it for all symbols at once. How programs share the work: see
`energies`. Gates are ordered as in `gru`.
"""

# ruff: noqa: N803 (sizes keep their letters)
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from tacoskip.kernels.triton.attention_backward import attention_backward
from tacoskip.kernels.triton.energies import (
    ALL,
    ATTENTION,
    LEAST,
    RECURRENT,
    Sizes,
    first_of_16,
    group_rows,
    hidden_energy,
    launch,
    product,
    sizes_of,
    wait,
    windows,
)
from tacoskip.kernels.triton.gru import cell, dot, state_gradients


@triton.jit
def _advance(tensors, group, part, t, B, L, R, SZ: tl.constexpr):
    """Compute a slice of the GRU's new states, and its share of the queries."""
    recurrent, _, results, scratch = tensors
    inputs, w, bias, query = recurrent
    hidden, _, saved, _ = results
    state, context, shares = scratch
    rows, real = group_rows(group, B, R, SZ)
    n, a = part * SZ.U + tl.arange(0, SZ.U), tl.arange(0, SZ.BA)
    ok = real[:, None] & (n < SZ.H)[None, :]
    at = rows * L + t
    mix = context + rows[:, None] * (3 * SZ.H) + n[None, :]
    c = tl.load(mix, mask=ok, other=0.0, cache_modifier=".cg")
    c_r = tl.load(mix + SZ.H, mask=ok, other=0.0, cache_modifier=".cg")
    c_z = tl.load(mix + 2 * SZ.H, mask=ok, other=0.0, cache_modifier=".cg")
    kept_state = state + rows[:, None] * SZ.H + n[None, :]
    h = tl.load(kept_state, mask=ok, other=0.0)
    w += part * (SZ.BH * 4 * SZ.U)
    gates = product(
        hidden + (at - 1) * SZ.H, real & (t > 0), w, SZ.H, 4 * SZ.U, SZ.BK, SZ.ROWS
    )  # fmt: skip
    r_n, z_0 = tl.split(tl.reshape(gates, (SZ.ROWS, SZ.U, 2, 2)))
    r, added = tl.split(r_n)
    z, _ = tl.split(z_0)
    added += tl.load(bias + n, mask=n < SZ.H, other=0.0).to(tl.float32)[None, :]
    x = inputs + at[:, None] * (3 * SZ.H) + n[None, :]
    kept = saved + at[:, None] * (4 * SZ.H) + n[None, :]
    h = cell(x, kept, h, c, r + c_r, z + c_z, added, ok, SZ.H)
    tl.store(kept_state, h, mask=ok)
    h = tl.where(ok, h, 0.0).to(hidden.dtype.element_ty)
    tl.store(hidden + at[:, None] * SZ.H + n[None, :], h, mask=ok)
    q = tl.load(query + n[:, None] * SZ.BA + a[None, :])
    share = dot(h, q, tl.zeros((SZ.ROWS, SZ.BA), tl.float32))
    place = shares + (part * B + rows)[:, None] * SZ.BA + a[None, :]
    tl.store(place, share, mask=real[:, None] & (a >= 0)[None, :])


@triton.jit
def _attend(tensors, row, t, B, L, S, SZ: tl.constexpr):
    """Compute the attention weights of one row, and what they add to the next step's gates."""
    _, attention, results, scratch = tensors
    mixed, keys, query_bias, energy, filters, lengths = attention
    _, history, _, queries = results
    _, context, shares = scratch
    a, whole, c = tl.arange(0, SZ.BA), tl.arange(0, SZ.SP), tl.arange(0, SZ.C)
    v = tl.load(energy + a, mask=a < SZ.A, other=0.0).to(tl.float32)
    share = shares + (c[:, None] * B + row) * SZ.BA + a[None, :]
    q = tl.sum(tl.load(share, cache_modifier=".cg"), 0)
    q += tl.load(query_bias + a, mask=a < SZ.A, other=0.0).to(tl.float32)
    q_low = q.to(queries.dtype.element_ty)
    tl.store(queries + (row * L + t) * SZ.A + a, q_low, mask=a < SZ.A)
    past = history + (row * (L + 1) + t) * (SZ.N * S)
    weights = past + SZ.N * S
    for s0 in range(0, S, SZ.BS):
        s = s0 + tl.arange(0, SZ.BS)
        seen = 0.0
        if SZ.P > 0:
            seen = windows(past, s, S, SZ.K, SZ.P)
        u = hidden_energy(keys, q_low.to(tl.float32), filters, seen, row, s, S, SZ)
        tl.store(weights + s, tl.sum(u * v[None, :], 1), mask=s < S)
    tl.debug_barrier()
    length = tl.load(lengths + row)
    e = tl.load(weights + whole, mask=whole < length, other=-float("inf"))
    if SZ.RECURSION:
        reach = tl.load(past + whole, mask=whole < S, other=0.0)
        reach += tl.load(past + whole - 1, mask=(whole > 0) & (whole <= S), other=0.0)
        e = tl.where(reach > 0, e + tl.log(tl.maximum(reach, LEAST)), -float("inf"))
    e = tl.exp(e - tl.max(e, 0))
    e = e / tl.sum(e, 0)
    tl.debug_barrier()
    tl.store(weights + whole, e, mask=whole < S)
    if SZ.P > 0:
        total = tl.load(past + S + whole, mask=whole < S, other=0.0)
        tl.store(weights + S + whole, total + e, mask=whole < S)
    tl.debug_barrier()
    _mix(mixed + row * S * (3 * SZ.H), weights, context + row * (3 * SZ.H), S, SZ)


@triton.jit
def _mix(mixed, weights, context, S, SZ: tl.constexpr):
    """Weights (S,) times mixed (S, 3 H)."""
    for s0 in range(0, S, SZ.BS):
        s = s0 + tl.arange(0, SZ.BS)
        p = first_of_16(tl.load(weights + s, mask=s < S, other=0.0), 0).to(mixed.dtype.element_ty)
        for n0 in range(0, 3 * SZ.H, SZ.BN):
            n = n0 + tl.arange(0, SZ.BN)
            within = (s < S)[:, None] & (n < 3 * SZ.H)[None, :]
            m = tl.load(mixed + s[:, None] * (3 * SZ.H) + n[None, :], mask=within, other=0.0)
            out = tl.sum(dot(p, m, tl.zeros((16, SZ.BN), tl.float32)), 0)
            out += tl.load(context + n, mask=(n < 3 * SZ.H) & (s0 > 0), other=0.0)
            tl.store(context + n, out, mask=n < 3 * SZ.H)


@triton.jit(do_not_specialize=["B", "L", "S", "R", "first", "last"])
def _forward(tensors, counters, B, L, S, R, first, last, SZ: tl.constexpr, PHASE: tl.constexpr):
    group, part = tl.program_id(0) // SZ.C, tl.program_id(0) % SZ.C
    counter = counters + group * 32
    for t in range(first, last):
        if PHASE != ATTENTION:
            _advance(tensors, group, part, t, B, L, R, SZ)
        if PHASE == ALL:
            wait(counter, (2 * t + 1) * SZ.C, SZ.C)
        if PHASE != RECURRENT:
            for i in range(part, tl.minimum(R, B - group * R), SZ.C):
                _attend(tensors, (group * R + i).to(tl.int64), t, B, L, S, SZ)
        if PHASE == ALL:
            wait(counter, (2 * t + 2) * SZ.C, SZ.C)


def pack(weight: Tensor, sizes: Sizes) -> Tensor:
    """State weights (3 H, H) as (C, BH, 4 U): by input channel; r, z, n, 0 of each hidden one."""
    extra = sizes.BH - sizes.H
    gates = functional.pad(weight.unflatten(0, (3, -1)), (0, extra, 0, extra, 0, 1))
    return gates.view(4, sizes.C, sizes.U, sizes.BH).permute(1, 3, 2, 0).contiguous()


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
        States (B, L, H); in float32 the attention weights before each step and after the last, and
        with filters their sums (B, L + 1, 1 or 2, S); for the gradient (B, L, 4 H) and queries
        (B, L, A).
    """
    weight, bias, query, query_bias, energy, filters = parameters
    batch, symbols = len(inputs), keys.shape[1]
    sizes, rows = sizes_of(keys, weight.shape[1], width, filters, recursion)
    results = _empty(inputs, keys, parameters, width)
    history = results[1]
    history[:, 0] = 0
    if width:
        history[:, 0, 0, 0] = 1  # before the first step all weight lies on symbol 0
    scratch = (
        history.new_zeros(batch, sizes.H),
        history.new_zeros(batch, 3 * sizes.H),
        history.new_empty(sizes.C, batch, sizes.BA),
    )
    query = functional.pad(query.t(), (0, sizes.BA - sizes.A, 0, sizes.BH - sizes.H))
    recurrent = (inputs, pack(weight, sizes), bias, query)
    attention = (mixed, keys, query_bias, energy, filters, lengths)
    constants = (tuple(x.contiguous() for x in each) for each in (recurrent, attention))
    shape = (batch, inputs.shape[1], symbols, rows)
    launch(_forward, (*constants, results, scratch), shape, sizes, [RECURRENT, ATTENTION], keys)
    return results


def _empty(
    inputs: Tensor, keys: Tensor, parameters: list[Tensor], width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Results of the loop, not yet computed."""
    batch, steps = inputs.shape[:2]
    channels, symbols = parameters[0].shape[1], keys.shape[1]
    history = (batch, steps + 1, 2 if width else 1, symbols)
    return (
        inputs.new_empty(batch, steps, channels),
        inputs.new_empty(history, dtype=torch.float32),
        inputs.new_empty(batch, steps, 4 * channels),
        inputs.new_empty(batch, steps, keys.shape[2]),
    )


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
    return _empty(inputs, keys, parameters, width)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, mixed, keys, parameters, _, ctx.width, ctx.recursion = inputs
    weight, _, query, _, energy, filters = parameters
    ctx.save_for_backward(mixed, keys, weight, query, energy, filters, *output)
    ctx.mark_non_differentiable(*output[2:])


def _gradients(ctx: Any, d_hidden: Tensor, d_history: Tensor, *_: Any) -> tuple[Any, ...]:
    constants, results = ctx.saved_tensors[:6], ctx.saved_tensors[6:]
    hidden, history, channels = results[0], results[1], results[0].shape[2]
    d_gates, d_queries, d_keys, d_energy, d_filters = attention_backward(
        d_hidden, d_history, list(constants), list(results), ctx.width, ctx.recursion
    )
    d_inputs, d_state = d_gates[..., : 3 * channels], d_gates[..., channels:]
    before = history[:, 1:-1, 0].transpose(1, 2).to(d_gates.dtype)
    d_mixed = before @ d_inputs[:, 1:]
    d_weight = state_gradients(d_state[:, 1:], hidden[:, :-1])
    d_bias = d_state[..., 2 * channels :].sum((0, 1))
    d_query = state_gradients(d_queries, hidden)
    d_query_bias = d_queries.sum((0, 1))
    d_parameters = [d_weight, d_bias, d_query, d_query_bias, d_energy, d_filters]
    return d_inputs, d_mixed, d_keys, d_parameters, None, None, None


attention_loop.register_autograd(_gradients, setup_context=_setup)
