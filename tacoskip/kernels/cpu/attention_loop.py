"""The attention loop's steps in one compiled kernel, for additive attentions.

tanh(x) = 2 sigmoid(2 x) - 1, and the constant falls out of the softmax: so the energies are sums of
sigmoids, with doubled weights. Products that need no state stand before the steps, and those of the
weights' gradients behind them. In bfloat16 states, weights and sums are float32.

Shapes: B batch, L steps, S symbols, P input channels, M memory channels, H hidden channels, A
attention channels, F location filters, W their width.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tacoskip.kernels.cpu.networks import (
    GATES,
    Argument,
    PreparedCall,
    call,
    cell_weights,
    compute_dtype,
    fits,
    operator,
    outer,
    packed,
)
from tacoskip.models.attention import Bahdanau, Forward, LocationSensitive
from tacoskip.models.attention_loop import AttentionLoop, LoopState

ATTENTIONS = (Bahdanau, LocationSensitive, Forward)
# of_context (3 H, M): z, r, n; of_state (3 H, H): n, z, r; state_bias (H) of the state's n; query
# (A, H) and its bias (A); energy (A); with location filters (F, 2 W) of the last weights and of
# their sum, and mix (A, F) of what they make.
WEIGHTS = (
    *("of_context", "of_state", "state_bias", "query", "query_bias", "energy", "filters", "mix"),
)
OUTPUTS = ("hidden", "context", "weights", "queries", "added", "gates", "past")
FIELDS = (
    *("items", "steps", "symbols", "memory_channels", "channels", "attention", "width"),
    *("filters", "forward", "window", "lengths", "inputs", "memory", "keys"),
    *("of_context", "of_state", "query", "of_past", "mix", "state_bias", "query_bias", "energy"),
    *("first_hidden", "first_context", "first_weights", "total"),
    *(*OUTPUTS, "past_back", "mix_back"),
    *("d_hidden", "d_context", "d_weights", "d_contexts", "d_queries", "of_state_rows", "of_gates"),
    *("d_keys", "d_energy", "d_bias", "d_past", "d_mix"),
)


def _arguments(memory: Tensor, weights: list[Tensor], backward: bool) -> dict[str, Tensor | int]:
    """Sizes and weights as the kernels have them; products of the backward one are transposed."""
    by_name = dict(zip(WEIGHTS, weights, strict=False))
    state_bias, energy = by_name["state_bias"].contiguous(), by_name["energy"].contiguous()
    products = {name: by_name[name] for name in ("of_context", "of_state", "query")}
    if not backward:
        products = {name: weight.t() for name, weight in products.items()}
    filters = width = 0
    if "mix" in by_name:
        location, mix = by_name["filters"], by_name["mix"]
        filters, width = len(location), location.shape[1] // 2
        products |= {"of_past": location.t(), "mix": mix.t()}
        if backward:
            products |= {"past_back": location, "mix_back": mix * energy[:, None]}
    batch, symbols, channels = memory.shape
    return {
        **{"items": batch, "symbols": symbols, "memory_channels": channels, "memory": memory},
        **{"channels": len(state_bias), "attention": len(energy)},
        **{"width": width, "filters": filters, "state_bias": state_bias, "energy": energy},
        "query_bias": by_name["query_bias"].contiguous(),
        **{name: packed(weight[None], memory.dtype) for name, weight in products.items()},
    }


def _outputs(inputs: Tensor, memory: Tensor, weights: list[Tensor]) -> dict[str, Tensor]:
    """Room for hidden (B, L, H), context (B, L, M), weights (B, L, S), and for the gradient
    queries, what the state adds to n, gates, what the filters see.
    """
    (batch, steps, gates), symbols = inputs.shape, memory.shape[1]
    seen = 2, symbols + weights[6].shape[1] // 2 - 1 if len(weights) > 6 else 0
    float32 = torch.float32
    return {
        "hidden": inputs.new_empty(batch, steps, gates // 3),
        "context": inputs.new_empty(batch, steps, memory.shape[2]),
        "weights": inputs.new_empty(batch, steps, symbols, dtype=float32),
        "queries": inputs.new_empty(batch, steps, len(weights[4]), dtype=float32),
        "added": inputs.new_empty(batch, steps, gates // 3),
        "gates": inputs.new_empty(inputs.shape, dtype=GATES[inputs.dtype]),
        "past": inputs.new_empty(batch, steps, *seen),
    }


def _forward(
    inputs: Tensor,
    memory: Tensor,
    keys: Tensor,
    lengths: Tensor,
    weights: list[Tensor],
    forward: bool,
    window: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Inputs (B, L, 3 H): z, r, n with their biases; memory (B, S, M), keys (B, S, A), lengths (B,)
    of real symbols, `WEIGHTS` -> `OUTPUTS`. forward: a symbol is reached from itself and the one
    before, and of those behind the largest weight `window` are kept (-1: all).
    """
    outputs = _outputs(inputs, memory, weights)
    given: dict[str, Argument] = {"inputs": inputs, "keys": keys, "lengths": lengths}
    given |= {"steps": inputs.shape[1], "forward": int(forward), "window": window}
    given |= _arguments(memory, weights, backward=False)
    call("loop_forward", inputs.dtype, FIELDS, given, outputs)
    return tuple(outputs.values())  # type: ignore[return-value]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, memory, keys, lengths, weights, ctx.forward, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(memory, keys, lengths, *output, *weights)


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    memory, keys, lengths, *rest = ctx.saved_tensors
    outputs, weights = dict(zip(OUTPUTS, rest[:7], strict=True)), rest[7:]
    hidden, context, alignments = rest[:3]
    given = {"keys": keys, "lengths": lengths, "steps": hidden.shape[1], **outputs}
    for name, grad in zip(OUTPUTS[:3], grads[:3], strict=True):
        given[f"d_{name}"] = torch.zeros_like(outputs[name]) if grad is None else grad.contiguous()
    given |= {"forward": int(ctx.forward), **_arguments(memory, weights, backward=True)}
    results = _gradients(hidden, context, keys, weights)
    call("loop_backward", memory.dtype, FIELDS, given, results)
    of_gates, d_queries, energy = results["of_gates"], results["d_queries"], weights[5]
    d_weights = [
        outer(of_gates, _before(context)).float(),
        outer(results["of_state_rows"], _before(hidden)).float(),
        results["d_bias"].sum(0)[: hidden.shape[2]],
        outer(d_queries, hidden).float(),
        d_queries.sum((0, 1), dtype=torch.float32),
        results["d_energy"].sum(0),
    ]
    if len(weights) > 6:
        d_weights.append(results["d_past"].sum(0).t())
        d_weights.append(results["d_mix"].sum(0).t() * energy[:, None])
    d_memory = torch.bmm(alignments.to(memory.dtype).transpose(1, 2), results["d_contexts"])
    d_keys = (results["d_keys"] * energy).to(keys.dtype)
    return of_gates, d_memory, d_keys, None, d_weights, None, None


def _gradients(
    hidden: Tensor, context: Tensor, keys: Tensor, weights: list[Tensor]
) -> dict[str, Tensor]:
    """Room for what the backward kernel gives."""
    (batch, steps, channels), attention = hidden.shape, keys.shape[2]
    filters, width = weights[6].shape if len(weights) > 6 else (0, 0)
    sums = {
        "d_keys": keys.shape,
        "d_energy": (batch, attention),
        "d_bias": (batch, 4 * channels),
        "d_past": (batch, width, filters),
        "d_mix": (batch, filters, attention),
    }
    return {
        "d_contexts": torch.empty_like(context),
        "d_queries": hidden.new_empty(batch, steps, attention),
        "of_state_rows": hidden.new_empty(batch, steps, 3 * channels),
        "of_gates": hidden.new_empty(batch, steps, 3 * channels),
        **{name: hidden.new_zeros(size, dtype=torch.float32) for name, size in sums.items()},
    }


attention_loop = operator("attention_loop", _forward, _save, _backward)


def _before(x: Tensor) -> Tensor:
    """Each step's predecessor: x (B, L, C), zeros first."""
    return functional.pad(x[:, :-1], (0, 0, 1, 0))


class CompiledState(NamedTuple):
    """As `LoopState`, with the sum of all weights so far (B, S), weights and biases of the inputs,
    and the kernel with what it needs once a sentence.
    """

    hidden: Tensor
    context: Tensor
    weights: Tensor
    total: Tensor
    of_inputs: tuple[Tensor, Tensor]
    kernel: PreparedCall


class CompiledAttentionLoop(AttentionLoop):
    """AttentionLoop in one kernel, under teacher forcing and step by step."""

    def kernel_weights(self, memory_channels: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Weights (3 H, P) of the inputs, their biases (3 H,), and `WEIGHTS`."""
        attention, inputs = self.attention, self.cell.input_size - memory_channels
        assert isinstance(attention, Bahdanau)
        of_input, bias, of_state, state_bias = cell_weights(*self.cell.parameters())
        query, energy = attention.query, attention.energy
        weights = [
            *(of_input[:, inputs:], of_state, state_bias),
            *(2 * query.weight, 2 * query.bias, 2 * energy.weight[0]),
        ]
        if isinstance(attention, LocationSensitive):
            weights += [attention.location.weight.flatten(1), 2 * attention.location_out.weight]
        return of_input[:, :inputs], bias, weights

    def rule(self) -> tuple[bool, int]:
        """Whether attention only moves forward, and its window."""
        attention = self.attention
        if not isinstance(attention, Forward):
            return False, -1
        return True, -1 if self.training else attention.back

    def forward(
        self, inputs: Tensor, memory: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = compute_dtype(memory, self.cell.weight_hh)
        if dtype is None:
            return super().forward(inputs, memory, mask)
        assert isinstance(self.attention, Bahdanau)
        of_inputs, bias, weights = self.kernel_weights(memory.shape[2])
        of_memory = 2 * self.attention.memory.weight
        with torch.autocast("cpu", enabled=False):
            inputs, memory, of_inputs, bias, of_memory = (
                x.to(dtype) for x in (inputs, memory, of_inputs, bias, of_memory)
            )
            inputs = functional.linear(inputs, of_inputs, bias)
            keys = functional.linear(memory, of_memory)
            given = inputs, memory.contiguous(), keys, mask.sum(1), weights
            hidden, context, alignments, *_ = attention_loop(*given, *self.rule())
        return hidden, context, alignments

    def start(self, memory: Tensor, mask: Tensor) -> Any:
        dtype = compute_dtype(memory, self.cell.weight_hh)
        if torch.is_grad_enabled() or dtype != torch.float32:
            return super().start(memory, mask)
        of_inputs, bias, weights = self.kernel_weights(memory.shape[2])
        memory, (batch, symbols, channels) = memory.contiguous(), memory.shape
        forward, window = self.rule()
        hidden = memory.new_zeros(batch, self.cell.hidden_size)
        first = memory.new_zeros(batch, symbols)
        first[:, 0] = float(len(weights) > 6)
        outputs = _outputs(memory.new_zeros(batch, 1, len(bias)), memory, weights)
        kernel = PreparedCall(
            "float32_loop_forward",
            FIELDS,
            {
                **_arguments(memory, weights, backward=False),
                **{"steps": 1, "forward": int(forward), "window": window},
                **{"keys": 2 * self.attention.keys(memory), "lengths": mask.sum(1)},
                **{name: outputs[name] for name in OUTPUTS[3:]},  # read by nobody
            },
        )
        state = hidden, memory.new_zeros(batch, channels), first, torch.zeros_like(first)
        return CompiledState(*state, (of_inputs.contiguous(), bias), kernel)

    def step(self, x: Tensor, state: Any) -> Any:
        if isinstance(state, LoopState):
            return super().step(x, state)
        hidden, context, weights = (torch.empty_like(part) for part in state[:3])
        total, inputs = state.total.clone(), functional.linear(x, *state.of_inputs)
        before = {
            "first_hidden": state.hidden,
            "first_context": state.context,
            "first_weights": state.weights,
        }
        after = {"hidden": hidden, "context": context, "weights": weights, "total": total}
        state.kernel({"inputs": inputs, **before, **after})
        return CompiledState(hidden, context, weights, total, state.of_inputs, state.kernel)


def is_additive(loop: AttentionLoop) -> bool:
    """Whether the attention is one of `ATTENTIONS` and all channels are whole vectors."""
    attention: Any = loop.attention
    if type(attention) not in ATTENTIONS:
        return False
    query, memory = attention.query, attention.memory
    channels = [query.in_features, query.out_features, memory.in_features]
    if isinstance(attention, LocationSensitive):
        channels.append(attention.location.out_channels)
    return fits(*channels)
