"""Attention energies: what the forward and the backward pass of the attention loop share.

B batch, L steps, S symbols, H hidden channels, A attention channels, K filter width, P filter width
padded to a power of 2.
"""

# ruff: noqa: N803 (sizes keep their letters)
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from tacoskip.kernels.triton.gru import ROWS, dot, tanh

LEAST = tl.constexpr(1e-12)  # weight from which a symbol counts as within reach


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


def sizes_of(keys: Tensor, hidden_size: int, filters: Tensor, width: int) -> dict[str, Any]:
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
