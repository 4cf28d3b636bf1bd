"""Compile every Triton kernel for an H100 and print registers, spills and shared memory."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tacoskip.kernels.triton import attention, attention_backward, gru, norm

PTXAS = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
FLOATS = {
    "bias", "weights", "totals", "context", "d_weights", "d_logits", "d_last", "d_total",
    "d_windows", "d_energy", "d_filters", "partial", "slope", "shift", "centre", "offset", "linear",
}  # fmt: skip
KINDS = {"lengths": "*i64", "mask": "*i1"} | dict.fromkeys(("B", "T", "L", "S", "C", "rows"), "i32")


def resources(kernel: Any, dtype: str, sizes: dict[str, Any], **options: int) -> str:
    """Compile one kernel; what ptxas says of it."""
    names = kernel.arg_names
    constants = {name: sizes[name] for name in names if name in sizes}
    kinds = {name: KINDS.get(name, "*fp32" if name in FLOATS else "*" + dtype) for name in names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if name not in constants and kinds[name].startswith("*")
    }
    source = ASTSource(
        fn=kernel,
        signature={name: "constexpr" if name in constants else kinds[name] for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs=aligned,
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    shared = compiled.metadata.shared
    assert shared <= 227 * 1024, f"{kernel.__name__} needs {shared} bytes of shared memory"
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(compiled.asm["ptx"])
        file.flush()
        call = [PTXAS, "-v", "-arch=sm_90a", file.name, "-o", os.devnull]
        text = subprocess.run(call, capture_output=True, text=True, check=True).stderr
    registers, spilled = (
        re.search(r"Used (\d+) reg", text),
        re.search(r"(\d+) bytes spill st", text),
    )
    return (
        f"{kernel.__module__}.{kernel.__name__} {dtype}: {registers and registers[1]} registers, "
        f"{spilled and spilled[1]} bytes spilled, {shared} bytes of shared memory"
    )


def main() -> None:
    for dtype, size in (("bf16", 2), ("fp32", 4)):
        for width in (128, 256):
            sizes = {"D": 2, "H": width, "BH": width, "BK": 128 // size, "ROWS": 16}
            sizes["RESIDENT"] = width * size <= 256
            for kernel in (gru._forward, gru._backward):
                print(resources(kernel, dtype, sizes, num_warps=8))
        for filters in (0, 31):
            sizes = {"H": 256, "BH": 256, "A": 128, "BA": 128, "K": filters, "SP": 128, "R": 1}
            sizes |= {"P": 32 if filters else 0, "BS": 64 // size, "BK": 128 // size, "ROWS": 16}
            sizes["RECURSION"] = bool(filters)
            stages = 3 if size == 2 else 1
            for kernel in (attention._forward, attention_backward._backward):
                print(resources(kernel, dtype, sizes, num_warps=8, num_stages=stages))
            print(
                resources(attention_backward._backward_keys, dtype, sizes | {"BS": 16}, num_warps=8)
            )
        sizes = {"BR": 64, "BC": 64, "RECTIFY": True, "POOL": True}
        for kernel in (norm._statistics, norm._apply, norm._sums, norm._backward):
            print(resources(kernel, dtype, sizes))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
