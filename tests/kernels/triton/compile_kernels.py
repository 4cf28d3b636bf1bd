"""Compile every Triton kernel for an H100 and print registers, spills and shared memory.

The operators run on CPU tensors of a training step's sizes, with each launch replaced by a
compilation for its arguments.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tacoskip.kernels.norm import MaskedNorm
from tacoskip.kernels.triton import attention, attention_backward, gru, norm

PTXAS = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
KINDS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.bool: "*i1",
}
DIVISIBLE = [["tt.divisibility", 16]]
Place = tuple[int, ...]
KERNELS = {
    gru: "_forward _backward",
    attention: "_forward",
    attention_backward: "_backward _backward_keys",
    norm: "_statistics _apply _sums _backward",
}
OPTIONS = ("num_warps", "num_stages")


class Compiled:
    """A kernel whose launch compiles it."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.seen = set[str]()

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return self.compile

    def compile(self, *arguments: Any, **named: Any) -> None:
        options = {key: named.pop(key) for key in OPTIONS if key in named}
        values = dict(zip(self.kernel.arg_names, arguments, strict=False)) | named
        constants, aligned = dict[Place, Any](), dict[Place, Any]()
        signature = dict[str, str]()
        for i, parameter in enumerate(self.kernel.params):
            value = values[parameter.name]
            if parameter.is_constexpr:
                constants[(i,)], signature[parameter.name] = value, "constexpr"
            elif isinstance(value, Tensor):
                aligned[(i,)], signature[parameter.name] = DIVISIBLE, KINDS[value.dtype]
            else:
                signature[parameter.name] = "i32"
        source = ASTSource(self.kernel, signature, constants, aligned)
        if source.hash() in self.seen:
            return
        self.seen.add(source.hash())
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        print(resources(compiled), [*constants.values()], flush=True)


def resources(compiled: Any) -> str:
    """What ptxas says of a kernel."""
    name, shared = compiled.metadata.name, compiled.metadata.shared
    assert shared <= 227 * 1024, f"{name} needs {shared} bytes of shared memory"
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(compiled.asm["ptx"])
        file.flush()
        call = [PTXAS, "-v", "-arch=sm_90a", file.name, "-o", os.devnull]
        text = subprocess.run(call, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) reg", text)
    spilled = re.search(r"(\d+) bytes spill st", text)
    return (
        f"{name}: {registers and registers[1]} registers, {spilled and spilled[1]} bytes spilled, "
        f"{shared} bytes of shared memory"
    )


def compile_gru(dtype: torch.dtype, channels: int) -> None:
    batch, steps = 32, 8
    lengths = torch.full((batch,), steps)
    gates = torch.zeros(batch, steps, 2, 3 * channels, dtype=dtype)
    weight = torch.zeros(2, 3 * channels, channels, dtype=dtype)
    hidden, saved = gru.gru(gates, weight, torch.zeros(2, channels, dtype=dtype), lengths)
    gru.gru_backward(hidden, weight, lengths, hidden, saved)


def compile_attention(dtype: torch.dtype, batch: int, width: int, recursion: bool) -> None:
    steps, symbols, hidden, channels = 4, 100, 256, 128
    inputs = torch.zeros(batch, steps, 3 * hidden, dtype=dtype)
    mixed = torch.zeros(batch, symbols, 3 * hidden, dtype=dtype)
    keys = torch.zeros(batch, symbols, channels, dtype=dtype)
    shapes = [(3 * hidden, hidden), (hidden,), (channels, hidden), (channels,), (channels,)]
    shapes.append((channels, 64 if width else 0))
    parameters = [torch.zeros(shape, dtype=dtype) for shape in shapes]
    lengths = torch.full((batch,), symbols)
    results = attention.attention_loop(inputs, mixed, keys, parameters, lengths, width, recursion)
    weight, _, query, _, energy, filters = parameters
    constants = [mixed, keys, weight, query, energy, filters]
    attention_backward.attention_backward(*results[:2], constants, list(results), width, recursion)


def compile_norm(dtype: torch.dtype, rectify: bool, pool: bool) -> None:
    x = torch.zeros(4, 100, 128, dtype=dtype, requires_grad=True)
    mask, weight = torch.ones(4, 100, dtype=torch.bool), torch.ones(128)
    options = 1e-5, (rectify, pool), None
    y, *_ = MaskedNorm.apply(norm.PASSES, mask, weight, weight, *options, x)
    y.sum().backward()


def main() -> None:
    for module, names in KERNELS.items():
        for name in names.split():
            setattr(module, name, Compiled(getattr(module, name)))
    for dtype in (torch.bfloat16, torch.float32):
        for channels in (128, 256):
            compile_gru(dtype, channels)
        for batch, width, recursion in ((32, 0, False), (32, 31, False), (512, 31, True)):
            compile_attention(dtype, batch, width, recursion)
        for rectify, pool in ((False, False), (True, False), (True, True)):
            compile_norm(dtype, rectify, pool)


if __name__ == "__main__":
    main()
