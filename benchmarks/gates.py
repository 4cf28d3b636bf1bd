"""What a closed gate saves: multiply-adds and milliseconds of one block in evaluation.

    python benchmarks/gates.py [--depth 16] [--channels 128] [--batch 8] [--frames 400]
        [--repeats 20] [--device cpu|cuda] [--json]

deactivable: a share of the units is closed, then taken out as `tacoskip.load` does; the output is
checked to be the same, bit by bit. dynamic: every unit is told which share of the examples uses it.
Ratios are to the block with everything in use, and `left` is what the share alone would leave.
Times are the best of `--repeats`, the variants taking turns; on a CPU one core's processor time, on
which other work on the machine tells less.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tacoskip.blocks import build_block, prune
from tacoskip.blocks.cost import macs
from tacoskip.blocks.skips.deactivable import Deactivable
from tacoskip.blocks.skips.dynamic import Dynamic


@dataclass
class Row:
    """One variant: `left` of the work should remain."""

    gate: str
    left: float
    block: nn.Module
    macs: float = 0.0
    ms: float = float("inf")


def deactivable(
    channels: int, depth: int, closed: float, inputs: tuple[Tensor, Tensor]
) -> nn.Module:
    """A block with a share of its units closed and taken out."""
    torch.manual_seed(0)
    block = build_block("deactivable", channels, depth).eval()
    gates = [module for module in block.modules() if isinstance(module, Deactivable)]
    for gate in gates:
        nn.init.constant_(gate.log_alpha, 4.0)
    for i in range(round(closed * depth)):  # spread over the depth
        nn.init.constant_(gates[int(i * depth / round(closed * depth))].log_alpha, -4.0)
    block.to(inputs[0].device)
    before = block(*inputs)
    assert prune(block) == round(closed * depth)
    assert torch.equal(block(*inputs), before)
    return block


def dynamic(channels: int, depth: int, chosen: float, inputs: tuple[Tensor, Tensor]) -> nn.Module:
    """A block whose units choose the first share of the examples."""
    torch.manual_seed(0)
    block = build_block("dynamic", channels, depth).eval().to(inputs[0].device)

    def first(chance: Tensor) -> Tensor:
        return (torch.arange(len(chance), device=chance.device) < chosen * len(chance)).float()

    for gate in block.modules():
        if isinstance(gate, Dynamic):
            decide: Callable[..., Tensor] = gate.chance
            # The gate itself still runs: it is part of the price.
            gate.chance = lambda x, mask, decide=decide: first(decide(x, mask))  # type: ignore[method-assign]
    return block


@torch.no_grad()
def measure(arguments: argparse.Namespace) -> list[Row]:
    """Every variant, the full ones of each kind first."""
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    channels, depth = arguments.channels, arguments.depth
    x = torch.randn(arguments.batch, arguments.frames, channels, device=device)
    inputs = x, torch.ones(x.shape[:2], dtype=torch.bool, device=device)
    closed, chosen = (0.0, 0.25, 0.5, 0.75, 1.0), (1.0, 0.5, 0.0)
    rows = [Row("deactivable", 1 - s, deactivable(channels, depth, s, inputs)) for s in closed]
    rows += [Row("dynamic", s, dynamic(channels, depth, s, inputs)) for s in chosen]
    for row in rows:
        row.macs = macs(row.block, *inputs) / x.shape[0] / x.shape[1]
    cuda = device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    for _ in range(arguments.repeats + 1):  # the first round is warming up, and never the best
        for row in rows:
            start = clock()
            row.block(*inputs)
            if cuda:
                torch.cuda.synchronize()
            row.ms = min(row.ms, 1000 * (clock() - start))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments)
    found = []
    for row in rows:
        full = next(one for one in rows if one.gate == row.gate and one.left == 1)
        found.append(
            {
                "gate": row.gate,
                "left": row.left,
                "macs_per_frame": row.macs,
                "macs_ratio": row.macs / full.macs,
                "ms": row.ms,
                "ms_ratio": row.ms / full.ms,
            }
        )
    if arguments.json:
        print(json.dumps(found))
        return
    print(
        f"depth {arguments.depth}, {arguments.channels} channels, {arguments.batch} x "
        f"{arguments.frames} frames, {arguments.device}\n"
        "gate          left   MACs/frame   ratio        ms   ratio"
    )
    for line in found:
        print(
            f"{line['gate']:<12} {line['left']:>5.2f} {line['macs_per_frame']:>12,.0f} "
            f"{line['macs_ratio']:>7.3f} {line['ms']:>9.2f} {line['ms_ratio']:>7.3f}"
        )


if __name__ == "__main__":
    main()
