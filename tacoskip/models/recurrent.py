"""Recurrent layers with their gradients written out.

Autograd keeps a node and makes a product of the weights' size for every operation of every step.
Here the products that need no state stand before the steps, and those of the weights' gradients
after them. The steps themselves are a loop in C where there is a compiler
(`tacoskip.kernels.cpu`), else a handful of operations each, both directions side by side. The
results are those of torch's own layer, to rounding. A GPU has its own kernel (cuDNN).

D directions, B batch, T steps, C input channels, H hidden channels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tacoskip.blocks.products import outer, product
from tacoskip.blocks.recorded import is_recorded
from tacoskip.kernels.cpu import gru as compiled
from tacoskip.kernels.cpu import low

# Steps that are taken at once: few enough for what is made of them to stay in the cache.
CHUNK = 16


def runs_here(x: Tensor) -> bool:
    """Whether `gru` is the way for x: torch's own layer is faster on a GPU, and without a gradient
    where nothing is compiled; and it is what a network is written down with.
    """
    if x.is_cuda or is_recorded():
        return False
    return torch.is_grad_enabled() or compiled.takes(x)


def gru(x: Tensor, layers: list[nn.GRU]) -> Tensor:
    """Run a layer along each direction of x (D, T, B, C), from zeros -> hidden states (D, T, B, H).

    layers: D of one size, of one layer each, with biases, which only lend their weights.
    """
    weights = _weights(layers)
    kind = x.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    with torch.autocast(kind, enabled=False):
        if torch.is_grad_enabled():
            hidden: Tensor = _GRU.apply(x, *weights, precision)
            return hidden
        input_weights, offset, state_weights, state_offset = weights
        x = x.to(state_weights.dtype)
        return _run(x, input_weights, offset, state_weights, state_offset, precision, None)


def _weights(layers: list[nn.GRU]) -> list[Tensor]:
    """Weights of the input (D, 3 H, C) and their biases, of the state (D, 3 H, H), bias (D, H)."""
    # Torch's rows are r, z, n. The input's stand as z, r, n here and the state's as n, z, r: so
    # the gradients of both lie side by side as (n of the state), z, r, (n of the input).
    of_input, of_state, bias, state_bias = [], [], [], []
    for layer in layers:
        r, z, n = layer.get_parameter("weight_ih_l0").chunk(3)
        of_input.append(torch.cat([z, r, n]))
        r, z, n = layer.get_parameter("weight_hh_l0").chunk(3)
        of_state.append(torch.cat([n, z, r]))
        r, z, n = layer.get_parameter("bias_ih_l0").chunk(3)
        r2, z2, n2 = layer.get_parameter("bias_hh_l0").chunk(3)
        bias.append(torch.cat([z + z2, r + r2, n]))
        state_bias.append(n2)
    return [torch.stack(each) for each in (of_input, bias, of_state, state_bias)]


def runs_low(x: Tensor, layers: list[nn.GRU]) -> bool:
    """Whether `low_gru` is the way for x: under autocast, where there is compiled code for it."""
    if is_recorded() or x.is_cuda or not torch.is_autocast_enabled("cpu"):
        return False
    weights = [layer.get_parameter("weight_hh_l0") for layer in layers]
    alike = all(weight.dtype == torch.float32 for weight in weights)
    bfloat16 = torch.get_autocast_dtype("cpu") == torch.bfloat16
    return alike and bfloat16 and bool(x.numel()) and low.there(weights[0].shape[1])


def low_gru(x: Tensor, lengths: Tensor, layers: list[nn.GRU]) -> Tensor:
    """Run a layer ahead and, of two, one back from each item's end, from zeros: x (B, T, C),
    lengths (B,) -> states side by side (B, T, D H) in bfloat16, zero beyond the lengths.

    What is read and kept is in bfloat16; states, and the sums of products, are float32.
    """
    of_input, bias, of_state, state_bias = _weights(layers)
    with torch.autocast("cpu", enabled=False):
        shown, of_input, bias = (
            each.to(torch.bfloat16) for each in (x, of_input.flatten(0, 1), bias.flatten())
        )
        hidden: Tensor = _LowGRU.apply(shown, of_input, bias, of_state, state_bias, lengths)
    return hidden


class _LowGRU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        of_input: Tensor,
        bias: Tensor,
        of_state: Tensor,
        state_bias: Tensor,
        lengths: Tensor,
    ) -> Tensor:
        x = x.contiguous()
        directions, _, channels = of_state.shape
        inputs = product(x.flatten(0, 1), of_input, bias)
        inputs = inputs.view(*x.shape[:2], directions, 3 * channels)
        weights = low.packed(of_state.transpose(1, 2))
        keeps = any(ctx.needs_input_grad)
        hidden, kept = low.gru(inputs, lengths, weights, state_bias.contiguous(), keeps)
        if kept is not None:
            ctx.save_for_backward(x, of_input, of_state, lengths, *kept)
        return hidden.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, of_input, of_state, lengths, *rest = ctx.saved_tensors
        kept, (directions, _, channels) = low.Kept(*rest), of_state.shape
        d_out = grads[0].contiguous().view(*x.shape[:2], directions, channels)
        rows, gates, sums = low.gru_back(d_out, lengths, low.packed(of_state), kept)
        of_gates = gates.flatten(2).flatten(0, 1)
        pairs = zip(rows.flatten(1, 2), kept.before.flatten(1, 2), strict=True)
        d_bias = sums.sum(0)
        return (
            product(of_gates, of_input.t()).view_as(x),
            outer(of_gates, x.flatten(0, 1)),
            d_bias[:, channels:].to(torch.bfloat16).flatten(),
            torch.stack([outer(*pair) for pair in pairs]).to(of_state.dtype),
            d_bias[:, :channels],
            None,
        )


def _product(
    a: Tensor, b: Tensor, precision: torch.dtype | None, bias: Tensor | None = None
) -> Tensor:
    """`products.product` of a and b, read in `precision`."""
    if precision is None:
        return product(a, b, bias)
    found = product(a.to(precision), b.to(precision)).to(a.dtype)
    return found if bias is None else found.add_(bias)


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        of_input: Tensor,
        bias: Tensor,
        of_state: Tensor,
        state_bias: Tensor,
        precision: torch.dtype | None,
    ) -> Tensor:
        ctx.precision, ctx.kind = precision, x.dtype
        x = x.to(of_state.dtype)
        directions, steps, batch, _ = x.shape
        channels = state_bias.shape[1]
        added = x.new_empty(directions, steps, batch, channels)
        gates = x.new_empty(directions, steps, batch, 3 * channels)
        hidden = _run(x, of_input, bias, of_state, state_bias, precision, (added, gates))
        flat = x.reshape(directions, steps * batch, -1)
        ctx.save_for_backward(flat, of_input, of_state, hidden, added, gates)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (d_out,) = grads
        flat, of_input, of_state, hidden, added, gates = ctx.saved_tensors
        directions, steps, batch, channels = hidden.shape
        d_h = hidden.new_zeros(directions, batch, channels)
        d_x = torch.empty_like(flat)
        d_input, d_state = torch.zeros_like(of_input), torch.zeros_like(of_state)
        d_bias = hidden.new_zeros(directions, 3 * channels)
        d_state_bias = hidden.new_zeros(directions, channels)
        native = compiled.takes(hidden)
        weight = compiled.packed(of_state) if native else of_state
        for chunk in reversed(_chunks(steps)):
            back = compiled.backward if native else _backward_steps
            kept = added[:, chunk], gates[:, chunk]
            at_start = chunk.start == 0
            parts = back(d_out[:, chunk], weight, hidden, chunk, kept, d_h)
            rows = slice(chunk.start * batch, chunk.stop * batch)
            for i in range(directions):
                states, of_gates = (part[i].flatten(0, 1) for part in parts)
                d_x[i, rows] = _product(of_gates, of_input[i].t(), ctx.precision)
                d_input[i] += _product(flat[i, rows].t(), of_gates.t(), ctx.precision).t()
                # Before the first step the state is zero.
                before = hidden[i, max(chunk.start - 1, 0) : chunk.stop - 1].flatten(0, 1)
                later = states[batch if at_start else 0 :]
                d_state[i] += _product(before.t(), later.t(), ctx.precision).t()
                d_bias[i] += of_gates.sum(0)
                d_state_bias[i] += states[:, :channels].sum(0)
        d_x = d_x.view(directions, steps, batch, -1).to(ctx.kind)
        return d_x, d_input, d_bias, d_state, d_state_bias, None


def _run(
    x: Tensor,
    of_input: Tensor,
    bias: Tensor,
    of_state: Tensor,
    state_bias: Tensor,
    precision: torch.dtype | None,
    kept: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """The hidden states; and into kept, for the gradient, what the state adds to n before r lets it
    in (D, T, B, H), and the gates n, z, r (D, T, B, 3 H).
    """
    directions, steps, batch, _ = x.shape
    channels = state_bias.shape[1]
    flat = x.reshape(directions, steps * batch, -1)
    hidden = x.new_empty(directions, steps, batch, channels)
    h = x.new_zeros(directions, batch, channels)
    weight = of_state.transpose(1, 2)
    native = compiled.takes(x)
    weight = compiled.packed(weight) if native else weight.contiguous()
    for chunk in _chunks(steps):
        rows = slice(chunk.start * batch, chunk.stop * batch)
        inputs = [
            _product(one[rows], weights, precision, offset).view(-1, batch, 3 * channels)
            for one, weights, offset in zip(flat, of_input, bias, strict=True)
        ]
        given = inputs, weight, state_bias, h, hidden[:, chunk]
        part = (kept[0][:, chunk], kept[1][:, chunk]) if kept else None
        if native:
            compiled.forward(*given, part)
            h = hidden[:, chunk.stop - 1].contiguous()
        else:
            h = _forward_steps(*given, part)
    return hidden


def _chunks(steps: int) -> list[slice]:
    return [slice(first, min(first + CHUNK, steps)) for first in range(0, steps, CHUNK)]


def _forward_steps(
    inputs: list[Tensor],
    weight: Tensor,
    bias: Tensor,
    h: Tensor,
    hidden: Tensor,
    kept: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """As `native.gru.forward`, with weight (D, H, 3 H): n, z, r; returns the last state."""
    channels = h.shape[2]
    if kept is None:
        kept = torch.empty_like(hidden), hidden.new_empty(*hidden.shape[:3], 3 * channels)
    offset = bias[:, None]
    of_state = h.new_empty(*h.shape[:2], 3 * channels)
    to_n, to_zr = of_state[..., :channels], of_state[..., channels:]
    each = (of_step.unbind(1) for of_step in (torch.stack(inputs), hidden, *kept))
    for given, out, addition, gate in zip(*each, strict=True):
        torch.bmm(h, weight, out=of_state)
        torch.add(to_n, offset, out=addition)
        n, zr = gate[..., :channels], gate[..., channels:]
        torch.add(given[..., : 2 * channels], to_zr, out=zr).sigmoid_()
        r = zr[..., channels:]
        torch.addcmul(given[..., 2 * channels :], r, addition, out=n).tanh_()
        h = torch.lerp(n, h, zr[..., :channels], out=out)
    return h


def _backward_steps(
    d_out: Tensor,
    weight: Tensor,
    hidden: Tensor,
    chunk: slice,
    kept: tuple[Tensor, Tensor],
    d_h: Tensor,
) -> tuple[Tensor, Tensor]:
    """As `native.gru.backward`, with weight (D, 3 H, H)."""
    added, gates = kept
    channels = d_h.shape[2]
    # Gradients of the state's part of n, of z, r and n, and of the state before, directly.
    parts = d_out.new_empty(*d_out.shape[:3], 5, channels)
    fill_slopes(parts, gates, added, hidden, chunk)
    for d_step, part in reversed(list(zip(d_out.unbind(1), parts.unbind(1), strict=True))):
        part *= (d_h + d_step)[:, :, None]
        torch.baddbmm(part[:, :, 4], part[:, :, :3].flatten(2), weight, out=d_h)
    return parts[..., :3, :].flatten(3), parts[..., 1:4, :].flatten(3)


def fill_slopes(parts: Tensor, gates: Tensor, added: Tensor, hidden: Tensor, at: slice) -> None:
    """Write into `parts` (D, L, B, 5, H) what a state's gradient is to be multiplied with."""
    n, z, r = gates.chunk(3, dim=-1)
    before = torch.zeros_like(n)
    before[:, 0 if at.start else 1 :] = hidden[:, max(at.start - 1, 0) : at.stop - 1]
    new = 1 - z
    slope = torch.mul(new, 1 - n.square(), out=parts[..., 3, :])
    torch.mul(slope, r, out=parts[..., 0, :])
    torch.mul((before - n) * new, z, out=parts[..., 1, :])
    torch.mul(slope * added, r * (1 - r), out=parts[..., 2, :])
    parts[..., 4, :] = z
