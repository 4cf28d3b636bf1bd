"""What closed gates save: multiply-adds and milliseconds of one block in evaluation.

    OMP_NUM_THREADS=1 python benchmarks/gates.py [--rounds 15]

16 units, 128 channels, 8 x 400 frames. deactivable: a share of the units is closed and removed as
`tacoskip.load` does; the output is checked to be the same, bit by bit. dynamic: each unit uses a
given share of the examples. Ratios are to the block with everything in use. Times are the best of
the rounds, CPU time of one core.
"""

import sys
from collections.abc import Callable

import torch
from timing import Comparison, Contestant, cpu_seconds, parser, percent, print_table
from torch import Tensor, nn

from tacoskip.blocks import build_block, prune
from tacoskip.blocks.cost import macs
from tacoskip.blocks.skips.deactivable import Deactivable
from tacoskip.blocks.skips.dynamic import Dynamic
from tacoskip.kernels.accelerate import accelerate

CHANNELS, DEPTH = 128, 16


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
def main() -> int:
    options = parser(__doc__, rounds=20).parse_args()
    x = torch.randn(4, 20, CHANNELS) if options.quick else torch.randn(8, 400, CHANNELS)
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    variants = [(deactivable, used) for used in (1.0, 0.75, 0.5, 0.25, 0.0)]
    variants += [(dynamic, used) for used in (1.0, 0.5, 0.0)]
    contestants = []
    for build, used in variants:
        block = build(used, x, mask)
        figures = {"in use": used, "MACs": macs(block, x, mask) / mask.sum().item()}
        accelerate(block)
        contestants.append(
            Contestant(build.__name__, lambda b=block: b(x, mask), figures=figures)  # type: ignore[misc]
        )
    Comparison("", "", 0, contestants).run(options.rounds, cpu_seconds)
    rows = []
    for one in contestants:
        full = next(other for other in contestants if other.name == one.name)
        rows.append(
            {
                "gate": one.name,
                "in use": percent(one.figures["in use"]),
                "MACs a frame": f"{one.figures['MACs']:,.0f}",
                "MACs, ratio": one.figures["MACs"] / full.figures["MACs"],
                "ms": 1000 * min(one.seconds),
                "ms, ratio": min(one.seconds) / min(full.seconds),
            }
        )
    print_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
