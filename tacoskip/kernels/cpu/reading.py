"""The steps of an attention GRU that reads a memory, by the compiled loops.

L steps, B batch, S symbols, A attention channels, C memory channels, H hidden channels, K width of
the F location filters. A and F are passed as panels, zeros at the end (loops.c).
"""

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tacoskip.kernels.cpu.gru import at, compiled, enough, packed

NUMBERS = "steps rows symbols memory_channels channels panels width filter_panels only_forward back"
GIVEN = (
    "lengths inputs memory keys of_context of_state state_bias query query_bias energy filters mix"
)
MADE = "hidden context weights past queries added gates"
GOES_ON = "from_hidden from_context from_weights total"
BACK = (
    "d_hidden d_context d_weights of_context of_state query mix filters d_contexts d_keys "
    "d_queries d_mix d_filters d_energy of_state_rows of_gates"
)


class _Reading(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in NUMBERS.split()),
        *((name, ctypes.c_void_p) for name in f"{GIVEN} {MADE} {GOES_ON}".split()),
        ("failed", ctypes.c_int),
    )


class _ReadingBack(ctypes.Structure):
    _fields_ = (("r", _Reading), *((name, ctypes.c_void_p) for name in BACK.split()))


class Weights(NamedTuple):
    """of_context (3 H, C): z, r, n; of_state (3 H, H): n, z, r; state_bias (H) of the state's n;
    query (A, H) and its bias (A); energy (A); filters (F, 2 K) of the last weights and of their
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


class Made(NamedTuple):
    """hidden (L, B, H), context (L, B, C), weights (L, B, S); and what the gradient needs: what the
    filters saw (L, B, 2, S + K - 1), queries (L, B, A), what the state added to n (L, B, H), gates
    (L, B, 3 H): n, z, r.
    """

    hidden: Tensor
    context: Tensor
    weights: Tensor
    past: Tensor
    queries: Tensor
    added: Tensor
    gates: Tensor


class Gradients(NamedTuple):
    """Of the gates z, r and the input's n (L, B, 3 H); of the state's n, z, r (L, B, 3 H); of the
    contexts (L, B, C), of the keys (B, S, A), queries (L, B, A), energy (A), filters (F, 2 K) and
    mix (A, F).
    """

    of_gates: Tensor
    of_state: Tensor
    contexts: Tensor
    keys: Tensor
    queries: Tensor
    energy: Tensor
    filters: Tensor | None
    mix: Tensor | None


def forward(
    inputs: Tensor, memory: Tensor, keys: Tensor, lengths: Tensor, by: Weights, only_forward: bool
) -> Made:
    """Read from the start: inputs (L, B, 3 H): z, r, n with their biases; memory (B, S, C); keys
    (B, S, A); lengths (B,) of what can be read; only_forward: a symbol is reached from itself and
    from the one before.
    """
    made = _made(len(inputs), memory, by)
    given = _Given(inputs, memory, keys, lengths, by, only_forward)
    reading = given.reading(made)
    threads = ctypes.c_int64(torch.get_num_threads())
    enough(compiled().read_forward(ctypes.byref(reading), threads))
    return made


def _made(steps: int, memory: Tensor, by: Weights) -> Made:
    """Room for what steps make."""
    batch, symbols, memory_channels = memory.shape
    channels, width = len(by.state_bias), _filter_width(by)
    new = memory.new_empty
    return Made(
        new(steps, batch, channels),
        new(steps, batch, memory_channels),
        new(steps, batch, symbols),
        new((steps, batch, 2, symbols + width - 1) if width else 0),
        new(steps, batch, _padded(by.energy)),
        new(steps, batch, channels),
        new(steps, batch, 3 * channels),
    )


class Steps:
    """Reads one step a call, from the start; given is what `forward` is, and back: symbols behind
    the largest weight that keep some, if only_forward.
    """

    def __init__(
        self,
        memory: Tensor,
        keys: Tensor,
        lengths: Tensor,
        by: Weights,
        only_forward: bool,
        back: int,
    ) -> None:
        self.made = _made(1, memory, by)
        # What a step is shown replaces these gates.
        given = _Given(self.made.gates, memory, keys, lengths, by, only_forward)
        self.given, self.reading = given, given.reading(self.made)
        self.reading.back = back
        self.total = torch.zeros_like(self.made.weights)
        self.reading.total = self.total.data_ptr()

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (B, 3 H) -> hidden (B, H), context (B, C), weights (B, S)."""
        hidden, context, weights = (torch.empty_like(x) for x in self.made[:3])
        r, inputs = self.reading, inputs.contiguous()
        r.inputs = inputs.data_ptr()
        r.hidden, r.context, r.weights = (x.data_ptr() for x in (hidden, context, weights))
        enough(compiled().read_forward(ctypes.byref(r), ctypes.c_int64(torch.get_num_threads())))
        r.from_hidden, r.from_context, r.from_weights = r.hidden, r.context, r.weights
        self.last = hidden, context, weights  # which the next step reads
        return hidden[0], context[0], weights[0]


def backward(
    grads: tuple[Tensor, Tensor, Tensor],
    memory: Tensor,
    keys: Tensor,
    lengths: Tensor,
    by: Weights,
    only_forward: bool,
    made: Made,
) -> Gradients:
    """Come back: grads of hidden, context and weights, and what `forward` was given and made."""
    batch, symbols, _ = memory.shape
    given = _Given(made.gates, memory, keys, lengths, by, only_forward)
    panels, places, width, columns = given.panels, given.places, given.width, _width()
    # These lack the factor `energy` until the loop has ended.
    zeros = memory.new_zeros
    d_keys = zeros(batch, panels, symbols, columns)
    d_mix = zeros(batch, panels, places * columns, columns)
    d_filters = zeros(batch, places, 2 * width, columns)
    d_energy = zeros(batch, panels * columns)
    contexts, queries = torch.empty_like(made.context), torch.empty_like(made.queries)
    of_state, of_gates = torch.empty_like(made.gates), torch.empty_like(made.gates)
    beside = 0, 0, 0, panels * columns - len(by.energy)
    factor = by.energy[:, None]
    filters = mix = None
    if by.filters is not None and by.mix is not None:
        filters = _pack(functional.pad(by.filters, (0, 0, 0, places * columns - len(by.filters))))
        mix = _pack(functional.pad(by.mix * factor, beside))
    back = {
        **dict(zip(("d_hidden", "d_context", "d_weights"), grads, strict=True)),
        "of_context": _pack(by.of_context),
        "of_state": _pack(by.of_state),
        "query": _pack(functional.pad(by.query * factor, beside)),
        **{"filters": filters, "mix": mix, "d_mix": d_mix},
        **{"d_contexts": contexts, "d_keys": d_keys, "d_queries": queries, "d_energy": d_energy},
        **{"d_filters": d_filters, "of_state_rows": of_state, "of_gates": of_gates},
    }
    back = {name: x.contiguous() if x is not None else None for name, x in back.items()}
    reading = _ReadingBack(given.reading(made), *(at(back[name]) for name in BACK.split()))
    threads = ctypes.c_int64(torch.get_num_threads())
    enough(compiled().read_backward(ctypes.byref(reading), threads))
    energy, a = by.energy, len(by.energy)
    of_filters = of_mix = None
    if by.filters is not None:
        of_filters = d_filters.sum(0).transpose(1, 2).reshape(places * columns, -1)
        of_filters = of_filters[: len(by.filters)]
        of_mix = d_mix.sum(0).transpose(1, 2).reshape(panels * columns, -1)
        of_mix = of_mix[:a, : len(by.filters)] * factor
    return Gradients(
        of_gates,
        of_state,
        contexts,
        d_keys.transpose(1, 2).reshape(batch, symbols, -1)[:, :, :a] * energy,
        queries[:, :, :a] * energy,
        d_energy.sum(0)[:a],
        of_filters,
        of_mix,
    )


class _Given:
    """What both ways are given, as the loops want it, and kept for as long as they run."""

    def __init__(
        self,
        inputs: Tensor,
        memory: Tensor,
        keys: Tensor,
        lengths: Tensor,
        by: Weights,
        only_forward: bool,
    ) -> None:
        self.panels = _padded(by.energy) // _width()
        self.width = _filter_width(by)
        self.places = -(-len(by.filters) // _width()) if by.filters is not None else 0
        self.only_forward = only_forward
        beside = 0, self.panels * _width() - len(by.energy)
        keys = functional.pad(keys, beside)
        batch, symbols, _ = keys.shape
        self.tensors = {
            "lengths": lengths,
            "inputs": inputs,
            "memory": memory,
            "keys": keys.view(batch, symbols, self.panels, -1).transpose(1, 2),
            "of_context": _pack(by.of_context.t()),
            "of_state": _pack(by.of_state.t()),
            "state_bias": by.state_bias,
            "query": _pack(by.query.t()),
            "query_bias": functional.pad(by.query_bias, beside),
            "energy": functional.pad(by.energy, beside),
        }
        if by.filters is not None and by.mix is not None:
            self.tensors["filters"] = _pack(by.filters.t())
            self.tensors["mix"] = _pack(
                functional.pad(by.mix, (0, self.places * _width() - len(by.filters))).t()
            )
        self.tensors = {name: x.contiguous() for name, x in self.tensors.items()}

    def reading(self, made: Made) -> _Reading:
        steps, batch, channels = made.hidden.shape
        _, symbols, memory_channels = self.tensors["memory"].shape
        return _Reading(
            *(steps, batch, symbols, memory_channels, channels),
            *(self.panels, self.width, self.places, int(self.only_forward), -1),
            *(at(self.tensors.get(name)) for name in GIVEN.split()),
            *(at(x) for x in made),
        )


def _filter_width(by: Weights) -> int:
    return by.filters.shape[1] // 2 if by.filters is not None else 0


def _pack(weights: Tensor) -> Tensor:
    return packed(weights[None])


def _width() -> int:
    return int(compiled().panel())


def _padded(energy: Tensor) -> int:
    return -(-len(energy) // _width()) * _width()
