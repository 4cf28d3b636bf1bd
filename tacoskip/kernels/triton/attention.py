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

from tacoskip.kernels.triton.attention_backward import attention_backward
from tacoskip.kernels.triton.energies import LEAST, hidden_energy, previous, sizes_of, windows
from tacoskip.kernels.triton.gru import cell, dot_gates, dot_rows, operator, state_gradients


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
            c_n = tl.zeros((BH,), tl.float32)
            c_r, c_z = c_n, c_n
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


def _empty(
    inputs: Tensor, mixed: Tensor, keys: Tensor, parameters: list[Tensor], *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Results of the loop, not yet computed."""
    rows, channels = inputs.shape[:2], parameters[0].shape[1]
    return (
        inputs.new_empty(*rows, channels),
        inputs.new_empty(*rows, keys.shape[1], dtype=torch.float32),
        inputs.new_empty(*rows, 4 * channels),
        inputs.new_empty(*rows, keys.shape[2]),
    )


@operator("attention", _empty)
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
    results = _empty(inputs, mixed, keys, parameters)
    totals, context = (results[1].new_zeros(batch, size) for size in (symbols, 3 * channels))
    sizes = sizes_of(keys, channels, filters, width)
    given = [inputs, mixed, keys, weight, bias, query.t(), query_bias, energy, filters, lengths]
    _forward[(triton.cdiv(batch, sizes["R"]),)](
        *(x.contiguous() for x in given), *results, totals, context,
        batch, steps, symbols, **sizes, RECURSION=recursion, num_warps=8,
        num_stages=3 if keys.element_size() == 2 else 1,
    )  # fmt: skip
    return results


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
