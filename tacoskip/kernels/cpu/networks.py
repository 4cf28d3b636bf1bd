"""Calls of the networks' compiled kernels (kernels.h) in float32 and bfloat16."""

import ctypes
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tacoskip.kernels.cpu import library, run, threads

PREFIX = {torch.float32: "float32", torch.bfloat16: "bf16"}
# The type in which gates are kept for the gradient: of bfloat16's size, and finer.
GATES = {torch.float32: torch.float32, torch.bfloat16: torch.float16}
VECTOR = 16

Argument = Tensor | int | None


def has_kernels(dtype: torch.dtype) -> bool:
    """Whether there are compiled kernels of a precision."""
    kernels = library()
    if kernels is None or dtype not in PREFIX:
        return False
    return dtype == torch.float32 or bool(kernels.bf16_available())


def fits(*channels: int) -> bool:
    """Whether all numbers of channels are whole vectors."""
    return all(number % VECTOR == 0 for number in channels)


def compute_dtype(x: Tensor, weight: Tensor) -> torch.dtype | None:
    """The precision in which kernels compute a module of x with weights now; None: they do not."""
    if x.device.type != "cpu" or weight.dtype != torch.float32 or not x.numel():
        return None
    if torch.is_autocast_enabled("cpu"):
        reduced = torch.get_autocast_dtype("cpu")
        return reduced if has_kernels(reduced) else None
    return torch.float32 if x.dtype == torch.float32 and has_kernels(torch.float32) else None


def call(
    kernel: str, dtype: torch.dtype, fields: Sequence[str], arguments: Mapping[str, Argument]
) -> None:
    """Run a kernel on a structure of `fields`, eight bytes each; those not in `arguments` are 0."""
    unknown = arguments.keys() - set(fields)
    assert not unknown, f"{kernel} has no {unknown}"
    values = [_number(arguments.get(field)) for field in fields]
    structure = (ctypes.c_int64 * len(values))(*values)
    run(f"{PREFIX[dtype]}_{kernel}", structure, threads())


def _number(value: Argument) -> int:
    if isinstance(value, Tensor):
        assert value.is_contiguous()
        return value.data_ptr()
    return int(value or 0)


def packed(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights (D, K, N) in the order of a product, see kernels.h."""
    kernels = library()
    assert kernels is not None
    columns = 2 * int(getattr(kernels, f"{PREFIX[dtype]}_lanes")())
    group = int(getattr(kernels, f"{PREFIX[dtype]}_group")())
    directions, k, n = weights.shape
    weights = functional.pad(weights.to(dtype), (0, -n % columns))
    panels = weights.view(directions, k // group, group, -1, columns)
    return panels.permute(0, 3, 1, 4, 2).contiguous()


def cell_weights(
    weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A GRU's weights as the kernels have them: of the input (3 H, C), their biases (3 H,), of the
    state (3 H, H), bias (H,) of the state's n.

    Torch's rows are r, z, n. The input's stand as z, r, n here and the state's as n, z, r.
    """
    r, z, n = weight_ih.chunk(3)
    state_r, state_z, state_n = weight_hh.chunk(3)
    bias_r, bias_z, bias_n = bias_ih.chunk(3)
    state_bias_r, state_bias_z, state_bias_n = bias_hh.chunk(3)
    return (
        torch.cat([z, r, n]),
        torch.cat([bias_z + state_bias_z, bias_r + state_bias_r, bias_n]),
        torch.cat([state_n, state_z, state_r]),
        state_bias_n,
    )
