"""GRUs along a batch of sequences: all steps in one compiled kernel, forward and backward.

The products that need no state stand before the steps, and those of the weights' gradients behind
them. In bfloat16 states and sums of products are float32.

Shapes: B batch, T frames, C input channels, D directions, H hidden channels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.kernels.cpu.networks import (
    GATES,
    Argument,
    call,
    cell_weights,
    compute_dtype,
    operator,
    outer,
    packed,
)
from tacoskip.models.cbhg import BiGRU
from tacoskip.models.decoder import ResidualGRU

FIELDS = (
    *("items", "frames", "directions", "channels"),
    *("lengths", "inputs", "weights", "bias", "out", "added", "gates"),
    *("d_out", "of_state", "of_gates", "d_bias"),
)


def _forward(
    x: Tensor,
    lengths: Tensor,
    input_weight: Tensor,
    bias: Tensor,
    state_weight: Tensor,
    state_bias: Tensor,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """X (B, T, C), lengths (B,), input_weight (D, 3 H, C), bias (D, 3 H), state_weight (D, 3 H, H),
    state_bias (D, H) -> states (B, T, D H), zero beyond the lengths. The second direction runs from
    each item's last frame back.

    With keep also, for the gradient: what the state before adds to n (B, T, D, H), and the gates
    n, z, r (B, T, D, 3 H).
    """
    (batch, frames, _), (directions, channels) = x.shape, state_bias.shape
    weight = input_weight.to(x.dtype).flatten(0, 1)
    inputs = functional.linear(x, weight, bias.to(x.dtype).flatten())
    out = x.new_empty(batch, frames, directions * channels)
    added = x.new_empty((batch, frames, directions, channels) if keep else 0)
    gates = inputs.view(GATES[x.dtype]).view(batch, frames, directions, 3 * channels)
    given: dict[str, Argument] = {
        **{"items": batch, "frames": frames, "directions": directions, "channels": channels},
        **{"lengths": lengths, "inputs": inputs, "bias": state_bias},
        "weights": packed(state_weight.transpose(1, 2), x.dtype),
    }
    kept = {"added": added, "gates": gates} if keep else {}
    call("gru_forward", x.dtype, FIELDS, given, {"out": out, **kept})
    return out, added, gates if keep else gates.new_empty(0)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, lengths, input_weight, _, state_weight, _, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, lengths, input_weight, state_weight, *output)


def _backward(ctx: Any, d_out: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    x, lengths, input_weight, state_weight, out, added, gates = ctx.saved_tensors
    (batch, frames, directions, channels), dtype = added.shape, x.dtype
    of_state = x.new_empty(directions, batch, frames, 3 * channels)
    of_gates = x.new_empty(gates.shape)
    sums = x.new_zeros(batch, directions, 4 * channels, dtype=torch.float32)
    given = {
        **{"items": batch, "frames": frames, "directions": directions, "channels": channels},
        **{"lengths": lengths, "weights": packed(state_weight, dtype), "d_out": d_out.contiguous()},
        **{"out": out, "added": added, "gates": gates},
    }
    results = {"of_state": of_state, "of_gates": of_gates, "d_bias": sums}
    call("gru_backward", dtype, FIELDS, given, results)
    flat, d_bias = of_gates.flatten(2), sums.sum(0)
    state = out.view_as(added)
    before = [functional.pad(state[:, :-1, 0], (0, 0, 1, 0))]  # the second direction runs back
    before += [functional.pad(state[:, 1:, 1], (0, 0, 0, 1))] if directions == 2 else []
    d_state = torch.stack([outer(*pair) for pair in zip(of_state, before, strict=True)])
    return (
        flat @ input_weight.to(dtype).flatten(0, 1),
        None,
        outer(flat, x).to(input_weight.dtype).view_as(input_weight),
        d_bias[:, channels:],
        d_state.to(state_weight.dtype),
        d_bias[:, :channels],
        None,
    )


gru = operator("gru", _forward, _save, _backward)


def run_gru(x: Tensor, lengths: Tensor, layers: list[nn.GRU], dtype: torch.dtype) -> Tensor:
    """Run one or two layers, which lend their weights, along x (B, T, C) in `dtype`."""
    each = [cell_weights(*layer.parameters()) for layer in layers]
    weights = [torch.stack(alike) for alike in zip(*each, strict=True)]
    x = x.to(dtype).contiguous()
    return gru(x, lengths, *weights, torch.is_grad_enabled())[0]


class CompiledBiGRU(BiGRU):
    """BiGRU in one kernel, both directions without mirrored copies."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        dtype = compute_dtype(x, self.ahead.get_parameter("weight_hh_l0"))
        if dtype is None:
            return super().forward(x, mask)
        with torch.autocast("cpu", enabled=False):
            return run_gru(x, mask.sum(1), [self.ahead, self.back], dtype)


class CompiledResidualGRU(ResidualGRU):
    """ResidualGRU in one kernel; a single step by torch's cell."""

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        dtype = compute_dtype(x, self.get_parameter("weight_hh_l0"))
        if x.shape[1] == 1 and dtype == torch.float32:
            before = torch.zeros_like(x[:, 0]) if state is None else state[0]
            y = torch.gru_cell(x[:, 0], before, *self.parameters())
            return x + y[:, None], y[None]
        if dtype is None or state is not None:
            return super().forward(x, state)
        with torch.autocast("cpu", enabled=False):
            y = run_gru(x, torch.full((len(x),), x.shape[1]), [self], dtype)
            return x + y, y[:, -1][None]
