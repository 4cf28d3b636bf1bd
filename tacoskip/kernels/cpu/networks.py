"""Calls of the networks' compiled kernels (kernels.h) in float32 and bfloat16."""

import ctypes
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tacoskip.kernels.cpu import library, run, threads

PREFIX = {torch.float32: "float32", torch.bfloat16: "bf16"}
# The type in which gates are kept for the gradient: of bfloat16's size, and finer.
GATES = {torch.float32: torch.float32, torch.bfloat16: torch.float16}
VECTOR = 16

Argument = Tensor | list[Tensor] | int


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
    dtype = torch.float32
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
    return dtype if x.dtype in (torch.float32, dtype) and has_kernels(dtype) else None


def operator(
    name: str,
    function: Callable[..., Any],
    save: Callable[..., None],
    backward: Callable[..., Any],
) -> Callable[..., Any]:
    """Make a differentiable function of tensors an operator of torch.library for the CPU.

    It computes with torch's operators and `run_kernel` only, so it serves fake tensors as well.
    As `torch.library.custom_op`, which imports torch's compiler at its first call.
    """
    full = f"tacoskip::{name}"
    torch.library.define(full, torch.library.infer_schema(function, mutates_args=()))
    torch.library.impl(full, "CPU")(function)
    torch.library.register_fake(full)(function)
    torch.library.register_autograd(full, backward, setup_context=save)
    return getattr(torch.ops.tacoskip, name).default


def _run_kernel(
    kernel: str,
    numbers: Sequence[int],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    fields: Sequence[int],
) -> None:
    """Fill outputs: a kernel on a structure of numbers, of which `fields` are the tensors' in turn.
    A number above 0 in a tensor's field counts the tensors of an array.
    """
    addresses, values, arrays = defaultdict(list), list(numbers), []
    for field, x in zip(fields, [*inputs, *outputs], strict=True):
        assert x.is_contiguous()
        addresses[field].append(x.data_ptr())
    for field, found in addresses.items():
        if values[field]:
            arrays.append((ctypes.c_void_p * len(found))(*found))
            found = [ctypes.addressof(arrays[-1])]
        (values[field],) = found
    run(kernel, (ctypes.c_int64 * len(values))(*values), threads())


torch.library.define(
    "tacoskip::run_kernel",
    "(str kernel, int[] numbers, Tensor[] inputs, Tensor(a!)[] outputs, int[] fields) -> ()",
)
torch.library.impl("tacoskip::run_kernel", "CPU")(_run_kernel)
torch.library.register_fake("tacoskip::run_kernel")(lambda *arguments: None)


def call(
    kernel: str,
    dtype: torch.dtype,
    fields: Sequence[str],
    inputs: Mapping[str, Argument],
    outputs: Mapping[str, Tensor | list[Tensor]],
) -> None:
    """Run a kernel on a structure of `fields`, eight bytes each; those not named are 0."""
    numbers, indices = [0] * len(fields), list[int]()
    given: list[Tensor] = []
    for name, value in (*inputs.items(), *outputs.items()):
        field = fields.index(name)
        if isinstance(value, int):
            numbers[field] = value
            continue
        tensors = value if isinstance(value, list) else [value]
        numbers[field] = len(value) if isinstance(value, list) else 0
        indices += [field] * len(tensors)
        given += tensors
    count = sum(len(x) if isinstance(x, list) else 1 for x in outputs.values())
    split = len(given) - count
    name = f"{PREFIX[dtype]}_{kernel}"
    torch.ops.tacoskip.run_kernel(name, numbers, given[:split], given[split:], indices)


class PreparedCall:
    """A kernel called again and again with arguments most of which stay; not an operator, for free
    running only, which nobody traces.
    """

    def __init__(self, kernel: str, fields: Sequence[str], constant: Mapping[str, Tensor | int]):
        self.kernel, self.constant = kernel, constant  # kept alive
        self.indices = {name: number for number, name in enumerate(fields)}
        self.structure = (ctypes.c_int64 * len(fields))()
        for name, value in constant.items():
            number = value if isinstance(value, int) else value.data_ptr()
            self.structure[self.indices[name]] = number

    def __call__(self, tensors: Mapping[str, Tensor]) -> None:
        """Run with these tensors, which are dense, beside the constant arguments."""
        for name, x in tensors.items():
            self.structure[self.indices[name]] = x.data_ptr()
        run(self.kernel, self.structure, threads())


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


def outer(grads: Tensor, inputs: Tensor) -> Tensor:
    """Gradient (M, K) of weights from grads (B, T, M) and inputs (B, T, K)."""
    grads, inputs = grads.flatten(0, 1), inputs.flatten(0, 1)
    wide = grads.shape[1] > inputs.shape[1] and grads.shape[1] % 32 == 0
    # In bfloat16 oneDNN is faster with the wider operand second, in whole vectors.
    if grads.dtype == torch.bfloat16 and wide:
        return (inputs.t() @ grads).t()
    return grads.t() @ inputs


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
