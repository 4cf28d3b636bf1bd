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

from tacoskip.kernels.cpu.matmul import outer
from tacoskip.kernels.cpu.networks import GATES, call, cell_weights, compute_dtype, fits, packed
from tacoskip.kernels.operators import operator
from tacoskip.models.attention import Bahdanau, Forward, LocationSensitive
from tacoskip.models.attention_loop import AttentionLoop, LoopState

FIELDS = (
    *("failed", "items", "steps", "symbols", "memory_channels", "channels", "attention", "width"),
    *("filters", "forward", "window", "lengths", "inputs", "memory", "keys"),
    *("of_context", "of_state", "query", "of_past", "mix", "state_bias", "query_bias", "energy"),
    *("first_hidden", "first_context", "first_weights", "total"),
    *("hidden", "context", "weights", "queries", "added", "gates", "past", "past_back", "mix_back"),
    *("d_hidden", "d_context", "d_weights", "d_contexts", "d_queries", "of_state_rows", "of_gates"),
    *("d_keys", "d_energy", "d_bias", "d_past", "d_mix"),
)
ATTENTIONS = (Bahdanau, LocationSensitive, Forward)


class Weights(NamedTuple):
    """of_context (3 H, M): z, r, n; of_state (3 H, H): n, z, r; state_bias (H) of the state's n;
    query (A, H) and its bias (A); energy (A); filters (F, 2 W) of the last weights and of their
    sum, and mix (A, F) of what they make, or None both.
    """

    of_context: Tensor
    of_state: Tensor
    state_bias: Tensor
    query: Tensor
    query_bias: Tensor
    energy: Tensor
    filters: Tensor | None
    mix: Tensor | None

    def sizes(self, memory: Tensor) -> dict[str, int]:
        filters, width = self.filters.shape if self.filters is not None else (0, 0)
        return {
            **{
                "items": len(memory),
                "symbols": memory.shape[1],
                "memory_channels": memory.shape[2],
            },
            **{"channels": len(self.state_bias), "attention": len(self.energy)},
            **{"width": width // 2, "filters": filters},
        }

    def of_forward(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """As the forward kernel has them."""
        turned = {name: getattr(self, name).t() for name in ("of_context", "of_state", "query")}
        return {**_packed(turned, dtype), **self._both(dtype)}

    def of_backward(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """As the backward kernel has them."""
        weights = {name: getattr(self, name) for name in ("of_context", "of_state", "query")}
        if self.filters is not None and self.mix is not None:
            weights["past_back"] = self.filters
            weights["mix_back"] = self.mix * self.energy[:, None]
        return {**_packed(weights, dtype), **self._both(dtype)}

    def _both(self, dtype: torch.dtype) -> dict[str, Tensor]:
        names = ("state_bias", "query_bias", "energy")
        found = {name: getattr(self, name).contiguous() for name in names}
        if self.filters is not None and self.mix is not None:
            found |= _packed({"of_past": self.filters.t(), "mix": self.mix.t()}, dtype)
        return found


def _packed(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: packed(weight[None], dtype) for name, weight in weights.items()}


def _outputs(inputs: Tensor, memory: Tensor, sizes: dict[str, int]) -> dict[str, Tensor]:
    """Room for hidden (B, L, H), context (B, L, M), weights (B, L, S), and for the gradient what
    the filters see, queries, what the state adds to n, gates.
    """
    batch, steps, symbols = len(inputs), inputs.shape[1], memory.shape[1]
    width, float32 = sizes["width"], torch.float32
    return {
        "hidden": inputs.new_empty(batch, steps, sizes["channels"]),
        "context": inputs.new_empty(batch, steps, memory.shape[2]),
        "weights": inputs.new_empty(batch, steps, symbols, dtype=float32),
        "queries": inputs.new_empty(batch, steps, sizes["attention"], dtype=float32),
        "added": inputs.new_empty(batch, steps, sizes["channels"]),
        "gates": inputs.new_empty(inputs.shape, dtype=GATES[inputs.dtype]),
        "past": inputs.new_empty((batch, steps, 2, symbols + width - 1) if width else 0),
    }


@operator("attention_loop")
def attention_loop(
    inputs: Tensor,
    memory: Tensor,
    keys: Tensor,
    lengths: Tensor,
    of_context: Tensor,
    of_state: Tensor,
    state_bias: Tensor,
    query: Tensor,
    query_bias: Tensor,
    energy: Tensor,
    filters: Tensor | None,
    mix: Tensor | None,
    forward: bool,
    window: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Inputs (B, L, 3 H): z, r, n with their biases; memory (B, S, M), keys (B, S, A), lengths (B,)
    of real symbols, the fields of `Weights` -> hidden, context, weights, and what the gradient
    needs. forward: a symbol is reached from itself and the one before, and of those behind the
    largest weight `window` are kept (-1: all).
    """
    weights = Weights(of_context, of_state, state_bias, query, query_bias, energy, filters, mix)
    sizes, dtype = weights.sizes(memory), inputs.dtype
    outputs = _outputs(inputs, memory, sizes)
    given = {"inputs": inputs, "memory": memory, "keys": keys, "lengths": lengths}
    rule = {"steps": inputs.shape[1], "forward": forward, "window": window}
    arguments = {**sizes, **rule, **given, **weights.of_forward(dtype), **outputs}
    call("loop_forward", dtype, FIELDS, arguments)
    return tuple(outputs.values())  # type: ignore[return-value]


@attention_loop.register_fake
def _(inputs: Tensor, memory: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    sizes = Weights(*rest[2:10]).sizes(memory)
    return tuple(_outputs(inputs, memory, sizes).values())


@operator("attention_loop_backward")
def attention_loop_backward(
    grads: list[Tensor],
    memory: Tensor,
    keys: Tensor,
    lengths: Tensor,
    weights: list[Tensor],
    outputs: list[Tensor],
    forward: bool,
) -> list[Tensor]:
    """Gradients of contexts (B, L, M), queries (B, L, A), the state's n, z, r and the input's z, r,
    n (B, L, 3 H), and in float32 of keys (B, S, A), energy (B, A), biases (B, 4 H), filters
    (B, 2 W, F) and mix (B, F, A).
    """
    parts = Weights(*weights, *([None] * (8 - len(weights))))
    sizes, dtype = parts.sizes(memory), memory.dtype
    results = _gradients(memory, keys, outputs, sizes)
    names = ("hidden", "context", "weights", "queries", "added", "gates", "past")
    given = dict(zip(("d_hidden", "d_context", "d_weights"), grads, strict=True))
    given |= dict(zip(names, outputs, strict=True))
    given |= {"memory": memory, "keys": keys, "lengths": lengths}
    rule = {"steps": outputs[0].shape[1], "forward": forward}
    arguments = {**sizes, **rule, **given, **parts.of_backward(dtype), **results}
    call("loop_backward", dtype, FIELDS, arguments)
    return list(results.values())


@attention_loop_backward.register_fake
def _(
    grads: list[Tensor],
    memory: Tensor,
    keys: Tensor,
    lengths: Tensor,
    weights: list[Tensor],
    outputs: list[Tensor],
    forward: bool,
) -> list[Tensor]:
    sizes = Weights(*weights, *([None] * (8 - len(weights)))).sizes(memory)
    return list(_gradients(memory, keys, outputs, sizes).values())


def _gradients(
    memory: Tensor, keys: Tensor, outputs: list[Tensor], sizes: dict[str, int]
) -> dict[str, Tensor]:
    hidden, context = outputs[:2]
    (batch, steps, channels), attention = hidden.shape, keys.shape[2]
    filters, width, float32 = sizes["filters"], sizes["width"], torch.float32
    zeros = {
        "d_keys": keys.shape,
        "d_energy": (batch, attention),
        "d_bias": (batch, 4 * channels),
        "d_past": (batch, 2 * width, filters),
        "d_mix": (batch, filters, attention),
    }
    return {
        "d_contexts": torch.empty_like(context),
        "d_queries": hidden.new_empty(batch, steps, attention),
        "of_state_rows": hidden.new_empty(batch, steps, 3 * channels),
        "of_gates": hidden.new_empty(batch, steps, 3 * channels),
        **{name: memory.new_zeros(shape, dtype=float32) for name, shape in zeros.items()},
    }


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, memory, keys, lengths, *weights, ctx.forward, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(memory, keys, lengths, *output, *(w for w in weights if w is not None))


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    memory, keys, lengths, *rest = ctx.saved_tensors
    outputs, weights = rest[:7], rest[7:]
    pairs = zip(grads[:3], outputs[:3], strict=True)
    pulls = [torch.zeros_like(x) if d is None else d.contiguous() for d, x in pairs]
    results = attention_loop_backward(pulls, memory, keys, lengths, weights, outputs, ctx.forward)
    d_contexts, d_queries, of_state, of_gates, d_keys, d_energy, d_bias, d_past, d_mix = results
    hidden, context, alignments = outputs[:3]
    energy = Weights(*weights, *([None] * (8 - len(weights)))).energy
    filtered = len(weights) == 8
    return (
        of_gates,
        torch.bmm(alignments.to(memory.dtype).transpose(1, 2), d_contexts),
        (d_keys * energy).to(keys.dtype),
        None,
        _weight(of_gates, _before(context)),
        _weight(of_state, _before(hidden)),
        d_bias.sum(0)[: hidden.shape[2]],
        _weight(d_queries, hidden),
        d_queries.sum((0, 1), dtype=torch.float32),
        d_energy.sum(0),
        d_past.sum(0).t() if filtered else None,
        d_mix.sum(0).t() * energy[:, None] if filtered else None,
        None,
        None,
    )


attention_loop.register_autograd(_backward, _save)


def _before(x: Tensor) -> Tensor:
    """Each step's predecessor: x (B, L, C), zeros first."""
    return functional.pad(x[:, :-1], (0, 0, 1, 0))


def _weight(grads: Tensor, inputs: Tensor) -> Tensor:
    """Gradient (O, I) of float32 weights: grads (B, L, O), inputs (B, L, I)."""
    return outer(grads.flatten(0, 1), inputs.flatten(0, 1)).float()


class CompiledState(NamedTuple):
    """As `LoopState`, with what the kernel needs once a sentence."""

    hidden: Tensor
    context: Tensor
    weights: Tensor
    total: Tensor
    of_inputs: tuple[Tensor, Tensor]
    constant: dict[str, Tensor | int]


class CompiledAttentionLoop(AttentionLoop):
    """AttentionLoop in one kernel, under teacher forcing and step by step."""

    def kernel_weights(self, memory: Tensor) -> tuple[Tensor, Tensor, Weights]:
        """Weights (3 H, P) of the inputs, their biases (3 H,), and those of the steps."""
        attention, inputs = self.attention, self.cell.input_size - memory.shape[2]
        assert isinstance(attention, Bahdanau)
        of_input, bias, of_state, state_bias = cell_weights(*self.cell.parameters())
        filters = mix = None
        if isinstance(attention, LocationSensitive):
            mix, filters = 2 * attention.location_out.weight, attention.location.weight.flatten(1)
        query, energy = attention.query, attention.energy
        weights = Weights(
            of_input[:, inputs:],
            of_state,
            state_bias,
            2 * query.weight,
            2 * query.bias,
            2 * energy.weight[0],
            filters,
            mix,
        )
        return of_input[:, :inputs], bias, weights

    @property
    def rule(self) -> tuple[bool, int]:
        """Whether attention is only forward, and its window."""
        attention = self.attention
        forward = isinstance(attention, Forward)
        return forward, attention.back if forward and not self.training else -1  # type: ignore[return-value]

    def forward(
        self, inputs: Tensor, memory: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = (
            compute_dtype(memory.float(), self.cell.weight_hh)
            if memory.is_floating_point()
            else None
        )
        if dtype is None:
            return super().forward(inputs, memory, mask)
        of_inputs, bias, weights = self.kernel_weights(memory)
        of_memory = 2 * self.attention.memory.weight
        with torch.autocast("cpu", enabled=False):
            inputs, memory, of_inputs, bias, of_memory = (
                x.to(dtype) for x in (inputs, memory, of_inputs, bias, of_memory)
            )
            inputs = functional.linear(inputs, of_inputs, bias)
            keys = functional.linear(memory, of_memory)
            given = inputs, memory.contiguous(), keys, mask.sum(1)
            hidden, context, alignments, *_ = attention_loop(*given, *weights, *self.rule)
        return hidden, context, alignments

    def start(self, memory: Tensor, mask: Tensor) -> LoopState:
        if torch.is_grad_enabled() or compute_dtype(memory, self.cell.weight_hh) != torch.float32:
            return super().start(memory, mask)
        of_inputs, bias, weights = self.kernel_weights(memory)
        keys, memory = 2 * self.attention.keys(memory), memory.contiguous()
        zeros, sizes = memory.new_zeros, weights.sizes(memory)
        batch, symbols, channels = memory.shape
        first = zeros(batch, symbols)
        if weights.filters is not None:
            first[:, 0] = 1.0
        forward, window = self.rule
        kept = _outputs(zeros(batch, 1, 3 * sizes["channels"]), memory, sizes)
        constant: dict[str, Tensor | int] = {
            **{**sizes, "steps": 1, "forward": forward, "window": window},
            **{"memory": memory, "keys": keys, "lengths": mask.sum(1)},
            **weights.of_forward(torch.float32),
            **kept,
        }
        hidden, context = zeros(batch, sizes["channels"]), zeros(batch, channels)
        state = hidden, context, first, torch.zeros_like(first), (of_inputs.contiguous(), bias)
        return CompiledState(*state, constant)  # type: ignore[return-value]

    def step(self, x: Tensor, state: LoopState) -> LoopState:
        if isinstance(state, LoopState):
            return super().step(x, state)
        assert isinstance(state, CompiledState)
        names = ("hidden", "context", "weights")
        after = {name: torch.empty_like(getattr(state, name)) for name in names}
        before = {f"first_{name}": getattr(state, name) for name in names}
        total, inputs = state.total.clone(), functional.linear(x, *state.of_inputs)
        arguments = {**state.constant, **before, **after, "inputs": inputs, "total": total}
        call("loop_forward", torch.float32, FIELDS, arguments)
        return state._replace(**after, total=total)  # type: ignore[arg-type,return-value]


def is_additive(loop: AttentionLoop) -> bool:
    """Whether the attention is one of `ATTENTIONS` and all channels are whole vectors."""
    attention = loop.attention
    if type(attention) not in ATTENTIONS:
        return False
    query, memory = attention.query, attention.memory
    channels = [query.in_features, query.out_features, memory.in_features]
    if isinstance(attention, LocationSensitive):
        channels.append(attention.location.out_channels)
    return fits(*channels)
