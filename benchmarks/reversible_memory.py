"""Memory of a training pass by depth: rebuilt activations, and kept ones.

    OMP_NUM_THREADS=1 python benchmarks/reversible_memory.py [--depths 4,16,64]

8 x 400 frames, 128 channels. residual is the additive chain; reversible rebuilds its activations in
the backward pass; kept is the same network without that. In MB (10^6 bytes): saved, what autograd
keeps for the backward pass, each storage once, without parameters; peak, what a forward and
backward pass needs beyond the network, the largest resident set of a process of its own. These
processes return every block above 64 KiB to the system (MALLOC_MMAP_THRESHOLD_, unless it is set),
so that glibc's free lists do not count. Time: one pass, the best of three,
CPU time; relative to residual.
"""

import argparse
import json
import os
import resource
import subprocess
import sys

import torch
from timing import cpu_seconds, print_table
from torch import Tensor, nn

from tacoskip.blocks import build_block
from tacoskip.blocks.cost import parameters
from tacoskip.blocks.topologies.reversible import Reversible
from tacoskip.kernels.accelerate import accelerate
from tacoskip.kernels.reversible import RebuiltReversible

CHANNELS = 128
VARIANTS = {"residual": "residual", "kept": "reversible", "reversible": "reversible"}


def build(variant: str, depth: int) -> nn.Module:
    """Build the stack of a variant with all kernels, for "kept" with all but one."""
    block = accelerate(build_block(VARIANTS[variant], CHANNELS, depth))
    if variant == "kept":
        assert type(block) is RebuiltReversible
        block.__class__ = Reversible
    return block


def saved_bytes(block: nn.Module, x: Tensor, mask: Tensor) -> int:
    """Size of the storages kept for the backward pass that the network does not own."""
    owned = {t.untyped_storage().data_ptr() for t in (*block.parameters(), *block.buffers())}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in owned:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x, mask)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def resident_bytes() -> int:
    """The resident set now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(variant: str, depth: int) -> dict[str, float]:
    """Measure one network in this process."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    block = build(variant, depth)
    for parameter in block.parameters():
        parameter.grad = torch.zeros_like(parameter).add_(0)  # written to, so that it is resident
    x, mask = torch.randn(8, 400, CHANNELS), torch.ones(8, 400, dtype=torch.bool)
    # What libraries allocate on their first use does not count.
    build(variant, 1)(x[:1, :8], mask[:1, :8]).square().sum().backward()
    before, seconds = resident_bytes(), []
    for _ in range(3):
        start = cpu_seconds()
        block(x, mask).square().sum().backward()
        seconds.append(cpu_seconds() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "parameters": parameters(block),
        "saved": saved_bytes(block, x, mask) / 1e6,
        "peak": (peak - before) / 1e6,
        "ms": 1000 * min(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--depths", default="4,16,64")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        variant, depth = options.one.split(",")
        print(json.dumps(measure(variant, int(depth))))
        return
    environment = {"MALLOC_MMAP_THRESHOLD_": "65536", **os.environ}
    rows, residual = [], dict[str, float]()
    for variant in VARIANTS:
        for depth in options.depths.split(","):
            command = [sys.executable, __file__, "--one", f"{variant},{depth}"]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
            row = json.loads(output.stdout.splitlines()[-1])
            base = residual.setdefault(depth, row["ms"])
            rows.append({"block": variant, "depth": depth} | row | {"time": row["ms"] / base})
    print_table(rows)


if __name__ == "__main__":
    main()
