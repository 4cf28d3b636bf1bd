"""A GRU's steps by the compiled loops: tensors in, tensors out.

D directions, L steps, B rows, H channels; float32 on the CPU, dense but where strides are said.
"""

import ctypes

import torch
from torch import Tensor

from tacoskip.kernels.cpu import loops


def takes(x: Tensor) -> bool:
    """Whether the loops are there, and for x."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and loops() is not None


def packed(weights: Tensor) -> Tensor:
    """Weights (D, K, N) as a product wants them."""
    library = compiled()
    width = library.panel()
    directions, k, n = weights.shape
    weights = weights.contiguous()
    out = weights.new_empty(directions, -(-n // width), k, width)
    for one, of_one in zip(weights, out, strict=True):
        library.pack(at(one), at(of_one), *_whole(k, n))
    return out


def forward(
    inputs: list[Tensor],
    weights: Tensor,
    bias: Tensor,
    before: Tensor,
    hidden: Tensor,
    kept: tuple[Tensor, Tensor] | None,
) -> None:
    """Go through steps: inputs, of each direction (L, B, 3 H): z, r, n; weights: packed
    (D, H, 3 H): n, z, r; bias (D, H) of the state's n; before (D, B, H) -> written into hidden
    (D, L, B, H) and, for the gradient, into kept: what the state adds to n (D, L, B, H), and gates
    (D, L, B, 3 H): n, z, r.

    Those three may be some of the steps of longer ones. MemoryError when there is none left.
    """
    directions, steps, rows, channels = hidden.shape
    added, gates = kept or (None, None)
    places = (ctypes.c_void_p * directions)(*(one.data_ptr() for one in inputs))
    there = compiled().gru_forward(
        *_whole(directions, steps, rows, channels),
        places,
        at(weights),
        at(bias),
        at(before),
        at(hidden),
        at(added),
        at(gates),
        *_whole(hidden.stride(0) // channels, torch.get_num_threads()),
    )
    enough(there)


def backward(
    d_out: Tensor,
    weights: Tensor,
    hidden: Tensor,
    chunk: slice,
    kept: tuple[Tensor, Tensor],
    d_hidden: Tensor,
) -> tuple[Tensor, Tensor]:
    """Come back through steps: d_out (D, L, B, H), strided; weights: packed (D, 3 H, H): n, z, r;
    hidden (D, T, B, H), of which these steps are a chunk; kept as of `forward`; d_hidden
    (D, B, H): the gradient of the state behind them, replaced by that of the state before.

    Returns the gradients (D, L, B, 3 H) of the state's n, z, r, and of z, r and the input's n.
    """
    directions, steps, rows, channels = d_out.shape
    added, gates = kept
    if d_out.stride(3) != 1:
        d_out = d_out.contiguous()
    of_state, of_gates = d_out.new_empty(2, directions, steps, rows, 3 * channels)
    there = compiled().gru_backward(
        *_whole(directions, steps, rows, channels),
        at(d_out),
        *_whole(*d_out.stride()[:3]),
        at(weights),
        at(hidden[:, chunk]),
        at(added),
        at(gates),
        *_whole(hidden.stride(0) // channels, int(chunk.start == 0)),
        at(d_hidden),
        at(of_state),
        at(of_gates),
        *_whole(torch.get_num_threads()),
    )
    enough(there)
    return of_state, of_gates


def compiled() -> ctypes.CDLL:
    """The compiled loops, where `takes` said that there are some."""
    found = loops()
    assert found is not None, "takes() first"
    return found


def enough(there: int) -> None:
    """MemoryError where a loop says that there was none."""
    if not there:
        raise MemoryError("not enough memory for the steps of a recurrent layer")


def at(x: Tensor | None) -> ctypes.c_void_p:
    """Where a tensor's numbers begin."""
    return ctypes.c_void_p(x.data_ptr() if x is not None else None)


def _whole(*numbers: int) -> list[ctypes.c_int64]:
    return [ctypes.c_int64(number) for number in numbers]
