"""Stacks alone, 128 channels, 8 x 400 frames: memory of a training pass, and what gates save.

    OMP_NUM_THREADS=1 python benchmarks/stacks.py memory [--depths 4,16,64]
    OMP_NUM_THREADS=1 python benchmarks/stacks.py gates [--rounds 20]

memory: residual is the additive chain; reversible rebuilds its activations in the backward pass;
kept is the same network without that. In MB (10^6 bytes): saved, what autograd keeps for the
backward pass, each storage once, without parameters; peak, what a forward and backward pass needs
beyond the network, the largest resident set of a process of its own. These processes return every
block above 64 KiB to the system (MALLOC_MMAP_THRESHOLD_, unless it is set), so that glibc's free
lists do not count. Time: one pass, the best of three, CPU time; relative to residual.

gates: 16 units in evaluation. deactivable: a share of the units is closed and removed as
`tacoskip.load` does; the output is checked to be the same, bit by bit. dynamic: each unit uses a
given share of the examples. Ratios are to the block with everything in use. Times are the best of
the rounds, CPU time of one core.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from timing import Comparison, Contestant, cpu_seconds, parser, percent, print_table
from torch import Tensor, nn

from tacoskip.blocks import build_block, prune
from tacoskip.blocks.cost import macs, parameters
from tacoskip.blocks.skips.deactivable import Deactivable
from tacoskip.blocks.skips.dynamic import Dynamic
from tacoskip.blocks.topologies.reversible import Reversible
from tacoskip.kernels.accelerate import accelerate
from tacoskip.kernels.reversible import RebuiltReversible

CHANNELS, DEPTH, ITEMS, FRAMES = 128, 16, 8, 400
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
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(variant: str, depth: int) -> dict[str, float]:
    """Measure one network in this process."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    block = build(variant, depth)
    for parameter in block.parameters():
        parameter.grad = torch.zeros_like(parameter).add_(0)  # written to, so that it is resident
    x, mask = torch.randn(ITEMS, FRAMES, CHANNELS), torch.ones(ITEMS, FRAMES, dtype=torch.bool)
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


def memory(depths: str) -> list[dict[str, float | str]]:
    """Measure each variant and depth in a process of its own."""
    environment = {"MALLOC_MMAP_THRESHOLD_": "65536", **os.environ}
    rows, residual = [], dict[str, float]()
    for variant in VARIANTS:
        for depth in depths.split(","):
            command = [sys.executable, __file__, "memory", "--one", f"{variant},{depth}"]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
            row = json.loads(output.stdout.splitlines()[-1])
            base = residual.setdefault(depth, row["ms"])
            rows.append({"block": variant, "depth": depth} | row | {"time": row["ms"] / base})
    return rows


def deactivable(used: float, x: Tensor, mask: Tensor) -> nn.Module:
    """Return a block with a share of its units in use and the others removed."""
    block = build_block("deactivable", CHANNELS, DEPTH).eval()
    gates = [module for module in block.modules() if isinstance(module, Deactivable)]
    closed = round((1 - used) * DEPTH)
    spread = {i * DEPTH // closed for i in range(closed)}
    for i, gate in enumerate(gates):
        nn.init.constant_(gate.log_alpha, -4.0 if i in spread else 4.0)
    expected = block(x, mask)
    assert prune(block) == closed
    assert torch.equal(block(x, mask), expected)
    return block


def dynamic(used: float, x: Tensor, mask: Tensor) -> nn.Module:
    """Return a block whose units choose the first share of the examples."""
    block = build_block("dynamic", CHANNELS, DEPTH).eval()
    chosen = (torch.arange(len(x)) < used * len(x)).float()
    for gate in block.modules():
        if isinstance(gate, Dynamic):
            chance: Callable[..., Tensor] = gate.chance

            def choose(*inputs: Tensor, chance: Callable[..., Tensor] = chance) -> Tensor:
                chance(*inputs)  # its cost counts
                return chosen

            gate.chance = choose  # type: ignore[method-assign]
    return block


@torch.no_grad()
def gates(rounds: int) -> list[dict[str, float | str | None]]:
    """Measure all variants in turn."""
    x, mask = torch.randn(ITEMS, FRAMES, CHANNELS), torch.ones(ITEMS, FRAMES, dtype=torch.bool)
    variants = [(deactivable, used) for used in (1.0, 0.75, 0.5, 0.25, 0.0)]
    variants += [(dynamic, used) for used in (1.0, 0.5, 0.0)]
    contestants, full = [], dict[str, tuple[float, float]]()
    for build_gates, used in variants:
        block = build_gates(used, x, mask)
        figures = {"in use": used, "MACs": macs(block, x, mask) / mask.sum().item()}
        run = partial(accelerate(block), x, mask)
        contestants.append(Contestant(build_gates.__name__, run, figures=figures))
    Comparison("", "", 0, contestants).run(rounds, cpu_seconds)
    rows = []
    for one in contestants:
        cost = one.figures["MACs"], 1000 * min(one.seconds)
        base = full.setdefault(one.name, cost)
        row = {"gate": one.name, "in use": percent(one.figures["in use"])}
        row |= {"MACs a frame": f"{cost[0]:,.0f}", "MACs, ratio": cost[0] / base[0]}
        rows.append(row | {"ms": cost[1], "ms, ratio": cost[1] / base[1]})
    return rows


def main() -> int:
    arguments = parser(__doc__, rounds=20, depths="4,16,64", one="")
    arguments.add_argument("what", choices=("memory", "gates"))
    options = arguments.parse_args()
    if options.one:
        variant, depth = options.one.split(",")
        print(json.dumps(measure(variant, int(depth))))
        return 0
    print_table(memory(options.depths) if options.what == "memory" else gates(options.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
