"""Memory of a training pass against depth: rebuilt activations, and kept ones.

    python benchmarks/reversible_memory.py [--depths 4,16,64] [--channels 128] [--batch 8]
        [--frames 400] [--device cpu|cuda] [--json]

residual is the additive chain; reversible rebuilds its activations in backward; kept is the same
network without. Two figures each, in MB (10^6 bytes). saved: what autograd keeps from
forward to backward, every storage once, without parameters. peak: what a forward and backward pass
takes beyond the network; on a CPU the largest resident set of a process of its own, on a GPU
torch.cuda.max_memory_allocated. glibc's heap would hold freed blocks back between the gradients, so
those processes give back every block above 64 KiB (MALLOC_MMAP_THRESHOLD_, unless it is set). Time
is of one pass, the best of three; on a CPU one core's processor time.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from tacoskip.blocks import build_block
from tacoskip.blocks.cost import parameters
from tacoskip.kernels.reversible import RebuiltReversible

VARIANTS = {"residual": "residual", "kept": "reversible", "reversible": "reversible"}


def build(variant: str, channels: int, depth: int) -> nn.Module:
    """Build the stack of a variant, without other kernels than the one in question."""
    block = build_block(VARIANTS[variant], channels, depth)
    if variant == "reversible":
        block.__class__ = RebuiltReversible
    return block


def saved_bytes(block: nn.Module, x: Tensor, mask: Tensor) -> int:
    """What waits for backward: distinct storages that the network does not own."""
    owned = {t.untyped_storage().data_ptr() for t in (*block.parameters(), *block.buffers())}
    held: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in owned:
            held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x, mask)
    return sum(tensor.untyped_storage().nbytes() for tensor in held.values())


def resident_bytes() -> int:
    """The resident set now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def one(variant: str, depth: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure one network in this process."""
    import resource

    torch.manual_seed(0)
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    block = build(variant, arguments.channels, depth).to(device)
    for parameter in block.parameters():
        parameter.grad = torch.zeros_like(parameter).add_(0)  # touched, so that it is resident
    x = torch.randn(arguments.batch, arguments.frames, arguments.channels, device=device)
    mask = torch.ones(arguments.batch, arguments.frames, dtype=torch.bool, device=device)
    # What the libraries take on their first use is no activation.
    warm = build(variant, arguments.channels, 1).to(device)
    warm(x[:1, :8], mask[:1, :8]).square().sum().backward()
    del warm
    cuda = device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else resident_bytes()
    best = float("inf")
    for _ in range(3):
        start = clock()
        block(x, mask).square().sum().backward()
        if cuda:
            torch.cuda.synchronize()
        best = min(best, clock() - start)
    top = (
        torch.cuda.max_memory_allocated()
        if cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {
        "parameters": parameters(block),
        "saved_mb": saved_bytes(block, x, mask) / 1e6,
        "peak_mb": (top - before) / 1e6,
        "pass_ms": 1000 * best,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", default="4,16,64")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        variant, depth = arguments.one.split(",")
        print(json.dumps(one(variant, int(depth), arguments)))
        return
    depths = [int(depth) for depth in arguments.depths.split(",")]
    environment = {"MALLOC_MMAP_THRESHOLD_": "65536", **os.environ}
    found: dict[str, dict[int, dict[str, float]]] = {}
    for variant in VARIANTS:
        for depth in depths:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", f"{variant},{depth}"]
            lines = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env=environment
            ).stdout
            found.setdefault(variant, {})[depth] = json.loads(lines.splitlines()[-1])
    if arguments.json:
        print(json.dumps(found))
        return
    print(
        f"{arguments.batch} x {arguments.frames} frames, {arguments.channels} channels, "
        f"{arguments.device}\n"
        "              depth  parameters  saved MB  of residual   peak MB  of residual   time"
    )
    for variant, rows in found.items():
        for depth, row in rows.items():
            base = found["residual"][depth]
            ratios = {key: row[key] / base[key] for key in ("saved_mb", "peak_mb", "pass_ms")}
            print(
                f"{variant:<12} {depth:>6} {row['parameters']:>11,} {row['saved_mb']:>9.1f} "
                f"{ratios['saved_mb']:>12.3f} {row['peak_mb']:>9.1f} {ratios['peak_mb']:>12.3f} "
                f"{ratios['pass_ms']:>6.2f}"
            )
        first, last = rows[depths[0]], rows[depths[-1]]
        print(
            f"{variant:<12} from depth {depths[0]} to {depths[-1]}: saved x "
            f"{last['saved_mb'] / first['saved_mb']:.2f}, peak x "
            f"{last['peak_mb'] / first['peak_mb']:.2f}"
        )


if __name__ == "__main__":
    main()
