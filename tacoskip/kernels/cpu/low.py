"""Passes and loops in bfloat16 by the compiled code, where the processor multiplies in it.

B items, T frames, N = B T rows, C channels (whole vectors of 16), D directions, H hidden channels;
bfloat16 on the CPU, dense, but where another type is said. `real` is bool (B, T).
"""

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tacoskip.kernels.cpu import loops
from tacoskip.kernels.cpu.gru import at, compiled, enough
from tacoskip.kernels.cpu.reading import Weights

LANES = 16
PANEL = 32
# Rows whose sums are taken at once: few enough to stay in the cache.
BLOCK = 128


def there(channels: int) -> bool:
    """Whether there is such code, and for so many channels."""
    library = loops()
    return channels % LANES == 0 and library is not None and bool(library.low())


def takes(x: Tensor) -> bool:
    """Whether the code is there, and for x (..., C)."""
    low = x.device.type == "cpu" and x.dtype == torch.bfloat16
    return low and bool(x.numel()) and there(x.shape[-1])


class _Norm(ctypes.Structure):
    _fields_ = (
        ("failed", ctypes.c_int),
        *((name, ctypes.c_int64) for name in ("items", "frames", "parts", "width", "block")),
        *((name, ctypes.c_void_p) for name in ("x", "real", "slope", "shift", "centre")),
        *((name, ctypes.c_int64) for name in ("rectify", "pool")),
        *((name, ctypes.c_void_p) for name in ("sums", "out", "d_out", "d_sums")),
        *((name, ctypes.c_void_p) for name in ("offset", "linear", "factor", "d_x")),
    )


class Norm:
    """Batch norm of x, in parts (B, T, W) of which C are made, over real frames, with what may
    follow: a ReLU, and the maximum of each frame and the next.
    """

    def __init__(self, parts: list[Tensor], real: Tensor, rectify: bool, pool: bool) -> None:
        self.parts, self.real = parts, real.contiguous()
        items, frames, width = parts[0].shape
        self.at = _places(parts)
        self.given = _Norm(0, items, frames, len(parts), width, BLOCK, ctypes.addressof(self.at))
        self.given.real = self.real.data_ptr()
        self.given.rectify, self.given.pool = int(rectify), int(pool)
        self.shape = items, frames, width * len(parts)

    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of blocks of rows: means (K, C), squares about them (K, C), rows counted (K, 1), in
        float32.
        """
        items, frames, channels = self.shape
        out = torch.empty(-(-items * frames // BLOCK), 2 * channels + 1)
        self._run("norm_sums", sums=out)
        mean, square, own = out.split([channels, channels, 1], 1)
        return mean, square, own

    def apply(self, slope: Tensor, shift: Tensor) -> Tensor:
        """What follows x slope + shift, both (C,) float32: (B, T, C), zero where not real."""
        out = self.parts[0].new_empty(self.shape)
        self._run("norm_apply", slope=slope, shift=shift, out=out)
        return out

    def back_sums(self, d_out: Tensor, slope: Tensor, shift: Tensor, centre: Tensor) -> Tensor:
        """Sums over an item's frames, (B, 2, C) float32: of the gradient of x slope + shift, and of
        that times x - centre.
        """
        out = torch.empty(self.shape[0], 2, self.shape[2])
        self._run("norm_back", slope=slope, shift=shift, centre=centre, d_out=d_out, d_sums=out)
        return out

    def back(
        self,
        d_out: Tensor,
        slope: Tensor,
        shift: Tensor,
        offset: Tensor,
        linear: Tensor,
        factor: Tensor,
    ) -> list[Tensor]:
        """Gradients of x's parts: (that of x slope + shift, - offset + x linear) factor."""
        out = [torch.empty_like(part) for part in self.parts]
        given = {"slope": slope, "shift": shift, "d_out": d_out}
        given |= {"offset": offset, "linear": linear, "factor": factor}
        places = _places(out)
        self.given.d_x = ctypes.addressof(places)
        self._run("norm_back", **given)
        return out

    def _run(self, name: str, **tensors: Tensor) -> None:
        for field, x in tensors.items():
            assert x.is_contiguous()
            setattr(self.given, field, x.data_ptr())
        enough(getattr(compiled(), name)(ctypes.byref(self.given), _threads()))


class _Highway(ctypes.Structure):
    _fields_ = (
        ("channels", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in "x of real out d_out d_of d_x".split()),
    )


def highway(x: Tensor, of: Tensor, real: Tensor) -> Tensor:
    """A highway's output x + s (ReLU(f) - x), s the logistic of g: x (B, T, C), of (B, T, 2 C):
    f, g -> (B, T, C), zero where not real.
    """
    out = torch.empty_like(x)
    given = _Highway(x.shape[-1], at(x), at(of), at(real), at(out))
    compiled().highway_forward(ctypes.byref(given), ctypes.c_int64(real.numel()), _threads())
    return out


def highway_back(d_out: Tensor, x: Tensor, of: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `of`, and of x as far as it comes directly."""
    d_of, d_x = torch.empty_like(of), torch.empty_like(x)
    places = (at(each) for each in (x, of, real, None, d_out, d_of, d_x))
    given = _Highway(x.shape[-1], *places)
    compiled().highway_backward(ctypes.byref(given), ctypes.c_int64(real.numel()), _threads())
    return d_of, d_x


class _Distance(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "size")),
        *((name, ctypes.c_void_p) for name in "counts x target signs sums".split()),
        ("slope", ctypes.c_float),
        ("d_x", ctypes.c_void_p),
    )


def distance(x: Tensor, target: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Summed absolute difference over real frames: x (B, T, C) of any C, target (B, T, C) float32,
    lengths (B,) -> (B,) float64, and what the gradient needs.
    """
    size = x[0].numel()
    counts = lengths.long() * x.shape[2]
    signs = torch.empty(len(x), -(-size // LANES), 2, dtype=torch.int16)
    sums = torch.empty(len(x), dtype=torch.float64)
    places = (at(each) for each in (counts, x, target, signs, sums))
    given = _Distance(len(x), size, *places)
    compiled().distance_forward(ctypes.byref(given), _threads())
    return sums, signs


def distance_back(slope: float, signs: Tensor, shape: torch.Size) -> Tensor:
    """Gradient of x, of that shape."""
    d_x = torch.empty(shape, dtype=torch.bfloat16)
    given = _Distance(shape[0], shape[1] * shape[2], signs=signs.data_ptr(), slope=slope)
    given.d_x = d_x.data_ptr()
    compiled().distance_backward(ctypes.byref(given), _threads())
    return d_x


class _Dropout(ctypes.Structure):
    _fields_ = (
        ("below", ctypes.c_int64),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in "x random d_out out".split()),
    )


def rectified_dropout(x: Tensor, p: float) -> Tensor:
    """ReLU(x (..., C)), each number zero with probability p, to a 65,536th, or 1 / (1 - p) as
    large, by 16 bits of torch's generator.
    """
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = min(max(round((1 - p) * 2**16), 1), 2**16 - 1)
    return _dropped(x, kept, at(bits), at(None))


def rectified_dropout_back(d_out: Tensor, out: Tensor, p: float) -> Tensor:
    """Gradient of x, by what `rectified_dropout` gave."""
    kept = min(max(round((1 - p) * 2**16), 1), 2**16 - 1)
    return _dropped(out, kept, at(None), at(d_out))


def _dropped(x: Tensor, kept: int, bits: ctypes.c_void_p, d_out: ctypes.c_void_p) -> Tensor:
    result = torch.empty_like(x)
    given = _Dropout(kept - 2**15, 2**16 / kept, at(x), bits, d_out, at(result))
    blocks = ctypes.c_int64(x.numel() // LANES)
    compiled().low_dropout(ctypes.byref(given), blocks, _threads())
    return result


def packed(weights: Tensor) -> Tensor:
    """Weights (D, K, N), K even, as a product in pairs wants them."""
    directions, k, n = weights.shape
    whole = functional.pad(weights.to(torch.bfloat16), (0, -n % PANEL))
    return whole.view(directions, k // 2, 2, -1, PANEL).permute(0, 3, 1, 4, 2).contiguous()


class _GRU(ctypes.Structure):
    _fields_ = (
        ("failed", ctypes.c_int),
        *((name, ctypes.c_int64) for name in ("items", "frames", "directions", "channels")),
        *((name, ctypes.c_void_p) for name in "lengths inputs weights bias out".split()),
        *((name, ctypes.c_void_p) for name in "before added gates d_out".split()),
        *((name, ctypes.c_void_p) for name in "of_state of_gates d_bias".split()),
    )


class Kept(NamedTuple):
    """Of every frame the state before it (D, B, T, H), what that adds to n (B, T, D, H), and the
    gates n, z, r (B, T, D, 3 H) in float16.
    """

    before: Tensor
    added: Tensor
    gates: Tensor


def gru(
    inputs: Tensor, lengths: Tensor, weights: Tensor, bias: Tensor, keeps: bool
) -> tuple[Tensor, Kept | None]:
    """Run from zeros, each second direction from the last frame back: inputs (B, T, D, 3 H): z, r,
    n with their biases; lengths (B,) int64; weights (D, H, 3 H) packed: n, z, r; bias (D, H)
    float32 of the state's n -> states (B, T, D, H), zero beyond the lengths, and what the gradient
    needs.
    """
    items, frames, directions, width = inputs.shape
    channels = width // 3
    out = inputs.new_empty(items, frames, directions, channels)
    kept = None
    if keeps:
        before = inputs.new_empty(directions, items, frames, channels)
        gates = torch.empty(inputs.shape, dtype=torch.float16)
        kept = Kept(before, torch.empty_like(out), gates)
    given = _gru(out, lengths, weights, kept)
    given.inputs, given.bias = inputs.data_ptr(), bias.data_ptr()
    given.out = out.data_ptr()
    enough(compiled().low_gru_forward(ctypes.byref(given), _threads()))
    return out, kept


def gru_back(
    d_out: Tensor, lengths: Tensor, weights: Tensor, kept: Kept
) -> tuple[Tensor, Tensor, Tensor]:
    """Come back: d_out (B, T, D, H), weights (D, 3 H, H) packed -> gradients of the state's n, z, r
    (D, B, T, 3 H), of z, r and the input's n (B, T, D, 3 H), and float32 sums of both over frames
    (B, D, 4 H): n of the state, z, r, n of the input.
    """
    items, frames, directions, channels = d_out.shape
    of_state = d_out.new_empty(directions, items, frames, 3 * channels)
    of_gates = d_out.new_empty(items, frames, directions, 3 * channels)
    sums = torch.zeros(items, directions, 4 * channels)
    given = _gru(d_out, lengths, weights, kept)
    given.d_out, given.of_state = d_out.data_ptr(), of_state.data_ptr()
    given.of_gates, given.d_bias = of_gates.data_ptr(), sums.data_ptr()
    enough(compiled().low_gru_backward(ctypes.byref(given), _threads()))
    return of_state, of_gates, sums


def _gru(like: Tensor, lengths: Tensor, weights: Tensor, kept: Kept | None) -> _GRU:
    given = _GRU(0, *like.shape, lengths.data_ptr())
    given.weights = weights.data_ptr()
    if kept is not None:
        given.before, given.added, given.gates = (x.data_ptr() for x in kept)
    return given


READ = (
    "lengths inputs memory keys of_context of_state query state_bias query_bias energy of_past mix"
)
MADE = "hidden context weights queries added gates past"
BACK = "past_back mix_back d_hidden d_context d_weights"
BACK_MADE = "d_contexts d_keys d_queries d_energy of_state_rows of_gates d_bias d_past d_mix"


class _Reading(ctypes.Structure):
    _fields_ = (
        ("failed", ctypes.c_int),
        *((name, ctypes.c_int64) for name in ("items", "steps", "symbols")),
        *((name, ctypes.c_int64) for name in ("memory_channels", "channels", "attention")),
        *((name, ctypes.c_int64) for name in ("width", "filters", "only_forward")),
        *((name, ctypes.c_void_p) for name in f"{READ} {MADE} {BACK} {BACK_MADE}".split()),
    )


class Made(NamedTuple):
    """hidden (B, L, H), context (B, L, M), weights (B, L, S) float32; and for the gradient queries
    (B, L, A) float32, what the state added to n (B, L, H), gates n, z, r (B, L, 3 H) float16, and
    what the filters saw (B, L, 2, S + K - 1).
    """

    hidden: Tensor
    context: Tensor
    weights: Tensor
    queries: Tensor
    added: Tensor
    gates: Tensor
    past: Tensor


class ReadBack(NamedTuple):
    """Gradients of the contexts (B, L, M), keys (B, S, A) float32, queries (B, L, A), energy (A)
    float32, the state's n, z, r and z, r and the input's n (B, L, 3 H), and float32 sums of these
    (4 H): n of the state, z, r, n of the input; of filters (F, 2 K) and mix (A, F) float32.
    """

    contexts: Tensor
    keys: Tensor
    queries: Tensor
    energy: Tensor
    of_state: Tensor
    of_gates: Tensor
    sums: Tensor
    filters: Tensor | None
    mix: Tensor | None


def read(
    inputs: Tensor, memory: Tensor, keys: Tensor, lengths: Tensor, by: Weights, only_forward: bool
) -> Made:
    """Read from the start: inputs (B, L, 3 H): z, r, n with their biases; memory (B, S, M); keys
    (B, S, A), summed with the query before a sigmoid; lengths (B,) int64 of what can be read;
    only_forward: a symbol is reached from itself and from the one before.
    """
    items, steps, width = inputs.shape
    channels, float32 = width // 3, torch.float32
    symbols, looks = memory.shape[1], _looks(by)
    made = Made(
        inputs.new_empty(items, steps, channels),
        inputs.new_empty(items, steps, memory.shape[2]),
        inputs.new_empty(items, steps, symbols, dtype=float32),
        inputs.new_empty(items, steps, keys.shape[2], dtype=float32),
        inputs.new_empty(items, steps, channels),
        inputs.new_empty(items, steps, width, dtype=torch.float16),
        inputs.new_empty((items, steps, 2, symbols + looks - 1) if looks else 0),
    )
    turned = {"of_context": by.of_context, "of_state": by.of_state, "query": by.query}
    given = {name: packed(weights.t()[None]) for name, weights in turned.items()}
    given["inputs"] = inputs
    _read("low_read_forward", memory, keys, lengths, by, only_forward, made, given)
    return made


def read_back(
    grads: tuple[Tensor, Tensor, Tensor],
    memory: Tensor,
    keys: Tensor,
    lengths: Tensor,
    by: Weights,
    only_forward: bool,
    made: Made,
) -> ReadBack:
    """Come back: grads of hidden, context and weights (float32), and what `read` was given and
    made.
    """
    items, steps, channels = made.hidden.shape
    filters = mix = None
    given = dict(zip(("d_hidden", "d_context", "d_weights"), grads, strict=True))
    if by.filters is not None and by.mix is not None:
        filters = torch.zeros(items, by.filters.shape[1], len(by.filters))
        mix = torch.zeros(items, *by.mix.t().shape)
        given["past_back"] = packed(by.filters[None])
        given["mix_back"] = packed((by.mix * by.energy[:, None])[None])
    back = ReadBack(
        torch.empty_like(made.context),
        torch.zeros(keys.shape),
        made.hidden.new_empty(items, steps, keys.shape[2]),
        torch.zeros(items, keys.shape[2]),
        made.hidden.new_empty(items, steps, 3 * channels),
        made.hidden.new_empty(items, steps, 3 * channels),
        torch.zeros(items, 4 * channels),
        filters,
        mix,
    )
    places = zip(BACK_MADE.split(), back, strict=True)
    given |= {name: x for name, x in places if x is not None}
    of = {"of_context": by.of_context, "of_state": by.of_state, "query": by.query}
    given |= {name: packed(weights[None]) for name, weights in of.items()}
    _read("low_read_backward", memory, keys, lengths, by, only_forward, made, given)
    return back._replace(
        keys=back.keys.mul_(by.energy),
        energy=back.energy.sum(0),
        sums=back.sums.sum(0),
        filters=filters.sum(0).t() if filters is not None else None,
        mix=mix.sum(0).t() * by.energy[:, None] if mix is not None else None,
    )


def _looks(by: Weights) -> int:
    """Width of the filters."""
    return by.filters.shape[1] // 2 if by.filters is not None else 0


def _read(
    name: str,
    memory: Tensor,
    keys: Tensor,
    lengths: Tensor,
    by: Weights,
    only_forward: bool,
    made: Made,
    given: dict[str, Tensor],
) -> None:
    items, steps, channels = made.hidden.shape
    attention, symbols = keys.shape[2], keys.shape[1]
    filters = len(by.filters) if by.filters is not None else 0
    numbers = items, steps, symbols, memory.shape[2], channels, attention
    looks = _looks(by), filters, int(only_forward)
    biases = {"state_bias": by.state_bias, "query_bias": by.query_bias, "energy": by.energy}
    whole = made._asdict() | biases | {"memory": memory, "keys": keys, "lengths": lengths} | given
    if by.filters is not None and by.mix is not None:
        whole |= {"of_past": packed(by.filters.t()[None]), "mix": packed(by.mix.t()[None])}
    whole = {field: x.contiguous() for field, x in whole.items()}
    reading = _Reading(0, *numbers, *looks)
    for field, x in whole.items():
        setattr(reading, field, x.data_ptr())
    enough(getattr(compiled(), name)(ctypes.byref(reading), _threads()))


def _places(tensors: list[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*(x.data_ptr() for x in tensors))


def _threads() -> ctypes.c_int64:
    return ctypes.c_int64(torch.get_num_threads())
