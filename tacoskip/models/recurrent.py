"""Recurrent layers with their gradients written out.

Autograd keeps a node and makes a product of the weights' size for every operation of every step.
Here a step is a handful of operations, both directions side by side; the products that need no
state stand before the loop, and those of the weights' gradients after it. The results are those of
torch's own layer, to rounding. A GPU has a kernel for it (cuDNN) and takes that.

D directions, B batch, T steps, C input channels, H hidden channels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tacoskip.blocks.products import product

# Steps whose slopes are made at once: few enough to stay in the processor's cache.
CHUNK = 16


def gru(x: Tensor, layers: list[nn.GRU]) -> Tensor:
    """Run a layer along each direction of x (D, T, B, C), from zeros -> hidden states (D, T, B, H).

    layers: D of one size, of one layer each, with biases, which only lend their weights.
    """
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
    weights = [torch.stack(each) for each in (of_input, bias, of_state, state_bias)]
    kind = x.device.type
    low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    with torch.autocast(kind, enabled=False):
        hidden: Tensor = _GRU.apply(x, *weights, low)
    return hidden


def _product(a: Tensor, b: Tensor, low: torch.dtype | None) -> Tensor:
    """`products.product` of a and b, read in precision `low`."""
    return product(a, b) if low is None else product(a.to(low), b.to(low)).to(a.dtype)


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        of_input: Tensor,
        bias: Tensor,
        of_state: Tensor,
        state_bias: Tensor,
        low: torch.dtype | None,
    ) -> Tensor:
        ctx.low, ctx.kind = low, x.dtype
        x = x.to(of_state.dtype)
        directions, steps, batch, _ = x.shape
        channels = state_bias.shape[1]
        flat = x.reshape(directions, steps * batch, -1)
        weight, offset = of_state.transpose(1, 2).contiguous(), state_bias[:, None]
        hidden = x.new_empty(directions, steps, batch, channels)
        added = torch.empty_like(hidden)  # what the state adds to n, before r lets it in
        gates = x.new_empty(directions, steps, batch, 3 * channels)  # n, z, r
        h = x.new_zeros(directions, batch, channels)
        product = torch.empty_like(gates[:, 0])
        to_n, to_zr = product[..., :channels], product[..., channels:]
        for first in range(0, steps, CHUNK):
            chunk = slice(first, min(first + CHUNK, steps))
            rows = slice(chunk.start * batch, chunk.stop * batch)
            inputs = torch.stack(
                [_product(flat[i, rows], of_input[i], low) for i in range(directions)]
            )
            inputs = inputs.add_(bias[:, None]).view(directions, -1, batch, 3 * channels)
            each = [inputs.unbind(1)]
            each += [of_step[:, chunk].unbind(1) for of_step in (hidden, added, gates)]
            for given, out, addition, gate in zip(*each, strict=True):
                torch.bmm(h, weight, out=product)
                torch.add(to_n, offset, out=addition)
                n, zr = gate[..., :channels], gate[..., channels:]
                torch.add(given[..., : 2 * channels], to_zr, out=zr).sigmoid_()
                r = zr[..., channels:]
                torch.addcmul(given[..., 2 * channels :], r, addition, out=n).tanh_()
                h = torch.lerp(n, h, zr[..., :channels], out=out)
        ctx.save_for_backward(flat, of_input, of_state, hidden, added, gates)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (d_hidden,) = grads
        flat, of_input, of_state, hidden, added, gates = ctx.saved_tensors
        directions, steps, batch, channels = hidden.shape
        # Gradients of the state's part of n, of z, r and n, and of the state before, directly.
        longest = hidden.new_empty(directions, min(CHUNK, steps), batch, 5, channels)
        d_h = hidden.new_zeros(directions, batch, channels)
        d_x = torch.empty_like(flat)
        d_input, d_state = torch.zeros_like(of_input), torch.zeros_like(of_state)
        sums = hidden.new_zeros(directions, 5 * channels)
        for first in reversed(range(0, steps, CHUNK)):
            chunk = slice(first, min(first + CHUNK, steps))
            parts = longest[:, : chunk.stop - first]
            fill_slopes(parts, gates[:, chunk], added[:, chunk], hidden, chunk)
            each = (of_step.unbind(1) for of_step in (d_hidden[:, chunk], parts))
            for d_out, part in reversed(list(zip(*each, strict=True))):
                part *= (d_h + d_out)[:, :, None]
                d_h = torch.baddbmm(part[:, :, 4], part[:, :, :3].flatten(2), of_state)
            rows = slice(first * batch, chunk.stop * batch)
            for i in range(directions):
                found = parts[i].view(-1, 5 * channels)
                of_gates = found[:, channels : 4 * channels]
                d_x[i, rows] = _product(of_gates, of_input[i].t(), ctx.low)
                d_input[i] += _product(flat[i, rows].t(), of_gates.t(), ctx.low).t()
                # Before the first step the state is zero.
                later = found[0 if first else batch :, : 3 * channels]
                before = hidden[i, max(first - 1, 0) : chunk.stop - 1].reshape(-1, channels)
                d_state[i] += _product(before.t(), later.t(), ctx.low).t()
                sums[i] += found.sum(0)
        d_x = d_x.view(directions, steps, batch, -1).to(ctx.kind)
        d_bias = sums[:, channels : 4 * channels]
        return d_x, d_input, d_bias, d_state, sums[:, :channels], None


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
