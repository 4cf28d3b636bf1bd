"""Teacher forcing: an attention GRU reads a memory, shown at every step what came before.

In training the additive attentions (`Bahdanau`, `LocationSensitive`, `Forward`) have the gradient
of the loop written out, as in `recurrent`: a step is a few operations, products that need no state
stand before the loop and those of the weights' gradients after it. On a CPU the loop itself is C
where a compiler is found (`tacoskip.kernels.cpu.reading`). Others go step by step through autograd,
which gives the same to rounding.

L steps, B batch, P channels shown, S symbols, A attention channels, C memory channels, H hidden
channels, K width of the location filters.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tacoskip.blocks.products import outer, product
from tacoskip.blocks.recorded import is_recorded
from tacoskip.kernels.cpu import low
from tacoskip.kernels.cpu import reading as compiled
from tacoskip.kernels.cpu.gru import takes
from tacoskip.models.attention import (
    Attention,
    Bahdanau,
    Forward,
    LocationSensitive,
    State,
    shift_right,
)
from tacoskip.models.capture import Plain
from tacoskip.models.recurrent import CHUNK, fill_slopes

# What `Forward` takes the logarithm of at least, and reads as out of reach.
LEAST = 1e-12
# Attentions whose loop has its gradient written out.
AT_ONCE: tuple[type[Attention], ...] = (Bahdanau, LocationSensitive, Forward)


def read(
    shown: Tensor,
    memory: Tensor,
    mask: Tensor,
    cell: nn.GRUCell,
    attention: Attention,
    loop: Plain | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run all steps from zeros: shown (B, L, P), memory (B, S, C), mask (B, S) -> hidden (B, L, H),
    context (B, L, C), alignments (B, L, S).

    cell reads [shown, last context]. loop: how a loop with its gradient written out is called.
    """
    if _learns(attention) and type(attention) in AT_ONCE:
        loop, additive = loop or Plain(), cast(Bahdanau, attention)
        if loop.multiple == 1:
            return _read_at_once(shown, memory, mask, cell, additive, loop)
        steps, symbols = shown.shape[1], memory.shape[1]
        beside = 0, -symbols % loop.multiple
        shown = functional.pad(shown, (0, 0, 0, -steps % loop.multiple))
        memory, mask = functional.pad(memory, (0, 0, *beside)), functional.pad(mask, beside)
        found = _read_at_once(shown, memory, mask, cell, additive, loop)
        return found[0][:, :steps], found[1][:, :steps], found[2][:, :steps, :symbols]
    step = _stepwise(memory, mask, cell, attention)
    hiddens, contexts, alignments = zip(*map(step, shown.unbind(1)), strict=True)
    return torch.stack(hiddens, 1), torch.stack(contexts, 1), torch.stack(alignments, 1)


def reads_low(memory: Tensor, cell: nn.GRUCell, attention: Attention) -> bool:
    """Whether `read_low` is the way: in training under autocast, where there is compiled code."""
    if memory.is_cuda or not torch.is_autocast_enabled("cpu") or not _learns(attention):
        return False
    if type(attention) not in AT_ONCE or torch.get_autocast_dtype("cpu") != torch.bfloat16:
        return False
    widths = [memory.shape[2], cell.hidden_size, cast(Bahdanau, attention).query.out_features]
    if isinstance(attention, LocationSensitive):
        widths.append(attention.location.out_channels)
    alike = cell.weight_hh.dtype == torch.float32 and bool(memory.numel())
    return alike and all(low.there(width) for width in widths)


def read_low(
    shown: Tensor, memory: Tensor, mask: Tensor, cell: nn.GRUCell, attention: Bahdanau
) -> tuple[Tensor, Tensor, Tensor]:
    """As `read`; what is read and kept is in bfloat16, states, weights and sums are float32."""
    of_shown, bias, weights = _all_weights(cell, attention, shown.shape[2], True)
    with torch.autocast("cpu", enabled=False):
        shown, memory, of_shown, bias, of_memory = (
            x.to(torch.bfloat16)
            for x in (shown, memory, of_shown, bias, 2 * attention.memory.weight)
        )
        inputs, keys = (
            functional.linear(shown, of_shown, bias),
            functional.linear(memory, of_memory),
        )
        forward = isinstance(attention, Forward)
        found = _ReadLow.apply(forward, inputs, memory, keys, mask.sum(1), *weights)
    hidden, context, alignments = found
    return hidden, context, alignments


class _ReadLow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, only_forward: bool, *given: Tensor) -> tuple[Tensor, ...]:
        inputs, memory, keys, lengths, *weights = given
        made = low.read(inputs, memory, keys, lengths, compiled.Weights(*weights), only_forward)
        ctx.only_forward = only_forward
        ctx.save_for_backward(memory, keys, lengths, *weights, *made)
        return tuple(made[:3])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        memory, keys, lengths, *rest = ctx.saved_tensors
        count = len(compiled.Weights._fields)
        by, made = compiled.Weights(*rest[:count]), low.Made(*rest[count:])
        d_hidden, d_context, d_weights = grads
        back = low.read_back(
            (d_hidden, d_context, d_weights), memory, keys, lengths, by, ctx.only_forward, made
        )
        channels = made.hidden.shape[2]
        kind = memory.dtype
        return (
            None,
            back.of_gates,
            torch.bmm(made.weights.to(kind).transpose(1, 2), back.contexts),
            back.keys.to(kind),
            None,
            _weights(back.of_gates, _before(made.context)).float(),
            _weights(back.of_state, _before(made.hidden)).float(),
            back.sums[:channels],
            _weights(back.queries, made.hidden).float(),
            back.queries.sum((0, 1), dtype=torch.float32),
            back.energy,
            back.filters,
            back.mix,
        )


def _before(x: Tensor) -> Tensor:
    """What stood a step before: x (B, L, C), zeros first."""
    return functional.pad(x[:, :-1], (0, 0, 1, 0))


def _learns(attention: Attention) -> bool:
    return attention.training and torch.is_grad_enabled() and not is_recorded()


def read_step(
    shown: Tensor,
    hidden: Tensor,
    context: Tensor,
    memory: Tensor,
    keys: Tensor,
    mask: Tensor,
    state: State,
    cell: nn.GRUCell,
    attention: Attention,
) -> tuple[Tensor, Tensor, State]:
    """One step: shown (B, P), hidden (B, H), context (B, C) -> hidden, context, state."""
    hidden = cell(torch.cat([shown, context], 1), hidden)
    weights, state = attention(hidden, keys, mask, state)
    return hidden, torch.bmm(weights[:, None].to(memory.dtype), memory)[:, 0], state


def _read_at_once(
    prenet: Tensor,
    memory: Tensor,
    mask: Tensor,
    cell: nn.GRUCell,
    attention: Bahdanau,
    loop: Plain,
) -> tuple[Tensor, Tensor, Tensor]:
    compiles = type(loop) is Plain and takes(prenet)
    of_shown, bias, weights = _all_weights(cell, attention, prenet.shape[2], compiles)
    found = _Read.apply(
        functional.linear(prenet.transpose(0, 1), of_shown, bias),
        memory,
        2 * attention.keys(memory),
        *weights,
        torch.zeros_like(memory[:, :, 0]).masked_fill(~mask, -math.inf),
        isinstance(attention, Forward),
        loop,
        compiles,
    )
    hidden, context, alignments = (x.transpose(0, 1) for x in found)
    return hidden, context, alignments


def _all_weights(
    cell: nn.GRUCell, attention: Bahdanau, shown: int, apart: bool
) -> tuple[Tensor, Tensor, compiled.Weights]:
    """The weights of what is shown (3 H, P): z, r, n, their biases, and those of the steps.

    apart: the location filters in their two layers.
    """
    (r, z, n), (r2, z2, n2) = cell.weight_ih.chunk(3), cell.weight_hh.chunk(3)
    of_input, of_state = torch.cat([z, r, n]), torch.cat([n2, z2, r2])
    (r, z, n), (r2, z2, n2) = cell.bias_ih.chunk(3), cell.bias_hh.chunk(3)
    bias = torch.cat([z + z2, r + r2, n])
    filters = mix = None
    if isinstance(attention, LocationSensitive):
        mix, filters = 2 * attention.location_out.weight, attention.location.weight.flatten(1)
        if not apart:  # both layers are linear, and one product has fewer calls
            filters, mix = mix @ filters, None
    # tanh(x) = 2 sigmoid(2 x) - 1, several times as fast where tanh is not vectorised; the constant
    # falls out of the softmax.
    weights = compiled.Weights(
        of_input[:, shown:].contiguous(),
        of_state,
        n2,
        2 * attention.query.weight,
        2 * attention.query.bias,
        2 * attention.energy.weight[0],
        filters,
        mix,
    )
    return of_input[:, :shown], bias, weights


Step = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def reader(memory: Tensor, mask: Tensor, cell: nn.GRUCell, attention: Attention) -> Step:
    """What goes on by a step a call, from zeros, where no gradient is recorded: shown (B, P) ->
    hidden (B, H), context (B, C), alignments (B, S). memory (B, S, C), mask (B, S).
    """
    apart = is_recorded() or torch.is_autocast_enabled(memory.device.type)
    if type(attention) in AT_ONCE and takes(memory) and not apart:
        additive = cast(Bahdanau, attention)
        shown = cell.input_size - memory.shape[2]
        of_shown, bias, weights = _all_weights(cell, additive, shown, True)
        of_shown, keys = of_shown.contiguous(), 2 * additive.keys(memory)
        only_forward = isinstance(attention, Forward)
        back = attention.back if isinstance(attention, Forward) and not attention.training else -1
        steps = compiled.Steps(memory, keys, mask.sum(1), weights, only_forward, back)
        return lambda x: steps(functional.linear(x, of_shown, bias))
    return _stepwise(memory, mask, cell, attention)


def _stepwise(memory: Tensor, mask: Tensor, cell: nn.GRUCell, attention: Attention) -> Step:
    """As `reader`, in torch's operations, which keep gradients."""
    keys = attention.keys(memory)
    state = attention.start(keys)
    hidden = memory.new_zeros(len(memory), cell.hidden_size)
    context = memory.new_zeros(len(memory), memory.shape[2])

    def step(shown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        nonlocal hidden, context, state
        hidden, context, state = read_step(
            shown, hidden, context, memory, keys, mask, state, cell, attention
        )
        return hidden, context, state[0]

    return step


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, ...]:
        *tensors, only_forward, loop, ctx.compiled = given
        inputs, memory, keys, *weights, hide = tensors
        if ctx.compiled:
            lengths, by = (hide == 0).sum(1), compiled.Weights(*weights)
            made = compiled.forward(inputs, memory, keys, lengths, by, only_forward)
            ctx.only_forward = only_forward
            ctx.save_for_backward(memory, keys, lengths, *weights, *made)
            return tuple(made[:3])
        of_context, of_state, _, query, _, energy, filters, _ = weights
        found = loop(_forward, (inputs, memory, keys, *weights[:-1], hide), only_forward)
        ctx.only_forward, ctx.loop = only_forward, loop
        ctx.save_for_backward(memory, of_context, of_state, query, energy, filters, *found)
        return cast(tuple[Tensor, ...], found[:3])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.compiled:
            memory, keys, lengths, *rest = ctx.saved_tensors
            count = len(compiled.Weights._fields)
            by, made = compiled.Weights(*rest[:count]), compiled.Made(*rest[count:])
            d_hidden, d_context, d_weights = grads
            back = compiled.backward(
                (d_hidden, d_context, d_weights), memory, keys, lengths, by, ctx.only_forward, made
            )
            found = _after(back.of_gates, back.of_state, back.contexts, back.queries, *made[:3])
            of_inputs, of_memory, of_context, of_state, state_bias, query, query_bias = found
            of_weights = of_context, of_state, state_bias, query, query_bias, back.energy
            of_places = back.filters, back.mix
            return of_inputs, of_memory, back.keys, *of_weights, *of_places, None, None, None, None
        found = ctx.loop(_backward, (*grads, *ctx.saved_tensors), ctx.only_forward)
        return (*found, None, None, None, None, None)


def _forward(
    inputs: Tensor,
    memory: Tensor,
    keys: Tensor,
    of_context: Tensor,
    of_state: Tensor,
    state_bias: Tensor,
    query: Tensor,
    query_bias: Tensor,
    energy: Tensor,
    filters: Tensor | None,
    hide: Tensor,
    only_forward: bool,
) -> tuple[Tensor | None, ...]:
    """Return hidden, context and weights, and what the gradient needs besides."""
    steps, batch, _ = inputs.shape
    symbols, channels = keys.shape[1], len(state_bias)
    new = inputs.new_empty
    hidden, added = new(steps, batch, channels), new(steps, batch, channels)
    gates = new(steps, batch, 3 * channels)  # n, z, r
    context, weights = new(steps, batch, memory.shape[2]), new(steps, batch, symbols)
    # The sigmoids, a chunk of steps in each: one block for all would be a gigabyte, for which a
    # heap in use seldom has room.
    opened = [
        new(min(CHUNK, steps - i), batch, symbols, keys.shape[2]) for i in range(0, steps, CHUNK)
    ]
    # The weights before each step and their sum so far, which the filters read.
    past = inputs.new_zeros(steps, batch, 2, symbols) if filters is not None else None
    h, c = inputs.new_zeros(batch, channels), torch.zeros_like(context[0])
    last = torch.zeros_like(weights[0])
    if filters is not None:
        last[:, 0] = 1.0
    total = torch.zeros_like(last)
    for i in range(steps):
        from_h, from_c = product(h, of_state), product(c, of_context)
        n, z, r = gates[i].chunk(3, 1)
        torch.add(from_h[:, :channels], state_bias, out=added[i])
        zr = gates[i, :, channels:]
        from_c += inputs[i]
        torch.add(from_c[:, : 2 * channels], from_h[:, channels:], out=zr).sigmoid_()
        torch.addcmul(from_c[:, 2 * channels :], r, added[i], out=n).tanh_()
        h = torch.lerp(n, h, z, out=hidden[i])
        at = torch.add(
            keys, (product(h, query) + query_bias)[:, None], out=opened[i // CHUNK][i % CHUNK]
        )
        if past is not None and filters is not None:
            past[i, :, 0], past[i, :, 1] = last, total
            at += product(_windows(past[i], filters.shape[1]), filters).view_as(at)
        logits = torch.mv(at.sigmoid_().view(-1, at.shape[2]), energy).view(batch, symbols)
        logits += hide
        if only_forward:
            reach = last + shift_right(last)
            logits += reach.clamp(min=LEAST).log().masked_fill_(reach <= 0, -math.inf)
        last = torch.softmax(logits, 1, out=weights[i])
        total = total + last
        c = torch.bmm(last[:, None], memory, out=context[i][:, None])[:, 0]
    return hidden, context, weights, past, added, gates, *opened


def _backward(
    d_hidden: Tensor,
    d_context: Tensor,
    d_weights: Tensor,
    memory: Tensor,
    of_context: Tensor,
    of_state: Tensor,
    query: Tensor,
    energy: Tensor,
    filters: Tensor | None,
    hidden: Tensor,
    context: Tensor,
    weights: Tensor,
    past: Tensor | None,
    added: Tensor,
    gates: Tensor,
    *rest: Any,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `_forward`'s tensors, up to the filters'."""
    steps, batch, channels = hidden.shape
    *opened, only_forward = rest
    symbols, width = weights.shape[2], opened[0].shape[3]
    new, zeros = hidden.new_empty, hidden.new_zeros
    # Gradients of the state's part of n, of z, r and n, and of the state before, directly.
    parts = new(1, steps, batch, 5, channels)
    d_query, d_contexts = new(steps, batch, width), torch.empty_like(context)
    # These lack the factor `energy` in their last dimension until the loop has ended.
    d_keys, d_filters = zeros(batch * symbols, width), None
    back = None
    if filters is not None:
        d_filters = zeros(width, filters.shape[1])
        back = (filters * energy[:, None]).t()  # (2 K, A)
    d_energy = zeros(width)
    query_back = (query * energy[:, None]).t()
    state_back, context_back = of_state.t(), of_context.t()
    d_h, d_c = zeros(batch, channels), torch.zeros_like(context[0])
    d_last, d_total = zeros(batch, symbols), zeros(batch, symbols)
    first = steps
    for i in reversed(range(steps)):
        if i < first:
            chunk = slice(max(0, first - CHUNK), first)
            made = gates[None, chunk], added[None, chunk]
            fill_slopes(parts[:, chunk], *made, hidden[None], chunk)
            first = chunk.start
        at, a = opened[i // CHUNK][i % CHUNK].view(-1, width), weights[i]
        d_c = torch.add(d_context[i], d_c, out=d_contexts[i])
        d_a = torch.baddbmm(
            (d_weights[i] + d_last + d_total)[:, None], d_c[:, None], memory.transpose(1, 2)
        )[:, 0]
        d_a -= (a * d_a).sum(1, keepdim=True)
        d_logits = a * d_a
        d_last = torch.zeros_like(d_logits)
        if only_forward and i:
            reach = weights[i - 1] + shift_right(weights[i - 1])
            d_last = torch.where(reach >= LEAST, d_logits / reach, d_last)
            d_last[:, :-1] += d_last[:, 1:].clone()
        flat = d_logits.view(-1)
        d_energy.addmv_(at.t(), flat)
        inner = torch.ops.aten.sigmoid_backward(flat[:, None].expand_as(at), at)
        d_keys += inner
        of_query = torch.sum(inner.view(batch, symbols, width), 1, out=d_query[i])
        if past is not None and back is not None and d_filters is not None:
            d_filters += outer(inner, _windows(past[i], len(back)))
            if i:
                d_past = _add_windows(product(inner, back).view(batch, symbols, -1))
                d_last = d_last + d_past[:, 0]
                d_total = d_total + d_past[:, 1]
        part = parts[0, i]
        d_h = d_hidden[i] + d_h + product(of_query, query_back)
        part *= d_h[:, None]
        d_h = part[:, 4] + product(part[:, :3].flatten(1), state_back)
        d_c = product(part[:, 1:4].flatten(1), context_back)
    rows = parts.view(steps, batch, 5 * channels)
    of_gates, of_state = rows[:, :, channels : 4 * channels], rows[:, :, : 3 * channels]
    d_query *= energy
    of_inputs, of_memory, *of_weights = _after(
        of_gates, of_state, d_contexts, d_query, hidden, context, weights
    )
    return (
        of_inputs,
        of_memory,
        d_keys.mul_(energy).view(batch, symbols, width),
        *of_weights,
        d_energy,
        d_filters * energy[:, None] if d_filters is not None else None,
    )


def _after(
    of_gates: Tensor,
    of_state: Tensor,
    d_contexts: Tensor,
    d_query: Tensor,
    hidden: Tensor,
    context: Tensor,
    weights: Tensor,
) -> tuple[Tensor, ...]:
    """What is left when the loop has come back to the start: the gradients of inputs, memory, the
    weights of context and state, the state's bias, and the query's weights and bias.
    """
    channels = hidden.shape[2]
    later, before = slice(1, None), slice(None, -1)
    flat_query = d_query.flatten(0, 1)
    return (
        of_gates,
        torch.bmm(weights.permute(1, 2, 0), d_contexts.transpose(0, 1)),
        _weights(of_gates[later], context[before]),
        _weights(of_state[later], hidden[before]),
        of_state[:, :, :channels].sum((0, 1)),
        outer(flat_query, hidden.view(-1, channels)),
        flat_query.sum(0),
    )


def _weights(grads: Tensor, inputs: Tensor) -> Tensor:
    """Gradient (O, I) of weights: grads (L, B, O), inputs (L, B, I), or both (B, L, ...)."""
    return outer(grads.flatten(0, 1), inputs.flatten(0, 1))


def _windows(past: Tensor, size: int) -> Tensor:
    """What filters (A, 2 K), size = 2 K, see of past (B, 2, S) around each symbol: (B * S, 2 K)."""
    width = size // 2
    seen = functional.pad(past, (width // 2, width // 2)).unfold(2, width, 1)  # (B, 2, S, K)
    return seen.transpose(1, 2).reshape(-1, 2 * width)


def _add_windows(d_windows: Tensor) -> Tensor:
    """The reverse of `_windows`: (B, S, 2 K) -> (B, 2, S)."""
    _, symbols, width = d_windows.shape
    columns = d_windows.transpose(1, 2)
    folded = functional.fold(columns, (1, symbols), (1, width // 2), padding=(0, width // 4))
    return folded[:, :, 0]  # (B, 2, 1, S) -> (B, 2, S)
