"""Where a training step goes: forward and backward of each part, and their share of the peak.

    python benchmarks/step_parts.py [--precision fp32] [--reduction 5] [--attention bahdanau]

The step of speed_training.py: batch 32, 100 symbols, 800 mel frames. A part ends where its output
is there, and in the backward pass where the gradient of its input is. Operations are counted on
plain.py, which reads the paper with torch's own modules; "of peak" holds them to the machine's
measured best.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import plain
import sizes
import torch
from peers import Batch
from speed_training import autocast, our_loss, plain_loss
from timing import CLOCKS, machine, parser, peaks
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tacoskip.models.tacotron import Tacotron
from tacoskip.training.memory import keep_memory

CBHG = {"bank": "bank.", "projections": "project", "highways": "highways.", "GRU": "gru"}
LOOP, AFTER = "decoder: attention's loop", "decoder: residual GRUs, frames, stop"
# Part -> what does the same in plain.py, by the beginnings of its modules' names.
PARTS: dict[str, tuple[str, ...]] = {
    "encoder: embedding, pre-net": ("encoder_prenet",),
    **{f"encoder: {name}": (f"encoder.{start}",) for name, start in CBHG.items()},
    "decoder: pre-net": ("prenet",),
    LOOP: ("attention_rnn", "query", "keys", "energy"),
    AFTER: ("project_in", "grus.", "frames", "stop"),
    **{f"post-net: {name}": (f"postnet.{start}",) for name, start in CBHG.items()},
    "linear": ("linear",),
    "losses": (),
    "clipping, AdamW": (),
}


class Marks:
    """The time at each mark, forward and backward, of one step."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.forward: list[tuple[str, float]] = []
        self.backward: list[tuple[str, float]] = []

    def begin(self) -> None:
        self.forward, self.backward = [("", self.clock())], []

    def set(self, x: Tensor, name: str) -> None:
        """Mark the end of a part, which gives x."""
        self.forward.append((name, self.clock()))
        x.register_hook(lambda _: self.backward.append((name, self.clock())))

    def spent(self, end: float, stepped: float) -> dict[str, tuple[float, float]]:
        """Seconds of each part, forward and backward; end: of the backward pass, stepped: after."""
        spent = {name: [0.0, 0.0] for name in PARTS}
        for (_, before), (name, after) in pairwise(self.forward):
            spent[name][0] += after - before
        # The gradient goes through the mark behind a part first, and through the one before last.
        times = [*self.backward, ("", end)]
        for (name, before), (_, after) in pairwise(times):
            spent[name][1] += after - before
        spent["clipping, AdamW"][0] = stepped - end
        return {name: (forward, backward) for name, (forward, backward) in spent.items()}


def mark(model: Tacotron, marks: Marks) -> None:
    """Put a mark behind each part of a network but the losses."""

    def before(module: nn.Module, name: str) -> None:
        module.register_forward_pre_hook(lambda _, given: marks.set(given[0], name))

    def behind(module: nn.Module, name: str) -> None:
        module.register_forward_hook(lambda *given: marks.set(given[2], name))

    starts = {"encoder": "encoder: embedding, pre-net", "post-net": AFTER}
    for place, cbhg in (("encoder", model.encoder.cbhg), ("post-net", model.postnet)):
        assert cbhg.bank is not None
        before(cbhg.bank, starts[place])
        behind(cbhg.bank, f"{place}: bank")
        before(cbhg.stack, f"{place}: projections")
        behind(cbhg.stack, f"{place}: highways")
        behind(cbhg.gru, f"{place}: GRU")
    behind(model.decoder.prenet, "decoder: pre-net")
    before(model.decoder.project_in, LOOP)
    model.register_forward_hook(lambda *given: marks.set(given[2].linear, "linear"))


def operations(reduction: int, batch: Batch) -> dict[str, float]:
    """Floating point operations of each part: three times those of a forward pass of plain.py."""
    model = plain.Tacotron(sizes.SYMBOLS, sizes.MELS, sizes.BINS, *sizes.paper(reduction)).train()
    with FlopCounterMode(display=False, depth=4) as counter, torch.no_grad():
        plain_loss(model, batch)
    counts = {
        name.removeprefix("Tacotron."): 3.0 * sum(each.values())
        for name, each in counter.get_flop_counts().items()
    }
    found = dict.fromkeys(PARTS, 0.0)
    for part, starts in PARTS.items():
        for name, count in counts.items():
            # A module's count holds those of the modules in it.
            if name.startswith(starts) and not name.rpartition(".")[0].startswith(starts):
                found[part] += count
    # The sum over memory by its weights belongs to no module.
    found[LOOP] += counts["Global"] - sum(found.values())
    return found


def take(
    model: Tacotron, optimizer: torch.optim.Optimizer, batch: Batch, precision: str, marks: Marks
) -> tuple[dict[str, tuple[float, float]], float]:
    """One step: what each part spent, and the whole."""
    optimizer.zero_grad()
    marks.begin()
    with autocast(precision):
        loss = our_loss(model, batch)
    marks.set(loss, "losses")
    loss.backward()
    end = marks.clock()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    stepped = marks.clock()
    return marks.spent(end, stepped), stepped - marks.forward[0][1]


def main(options: argparse.Namespace) -> int:
    keep_memory()
    clock = CLOCKS[options.clock]
    peak = peaks(clock, 256, 1 << 16) if options.quick else peaks(clock)
    batch = sizes.random_batch(*((1, 6, 10) if options.quick else (32, 100, 800)))
    counted = operations(options.reduction, batch)
    model = sizes.tacotron(sizes.paper(options.reduction, options.attention)).train()
    optimizer, marks = torch.optim.AdamW(model.parameters(), lr=1e-4), Marks(clock)
    mark(model, marks)
    one = partial(take, model, optimizer, batch, options.precision, marks)
    one()
    steps = [one() for _ in range(1 if options.quick else options.rounds)]
    whole = statistics.median(total for _, total in steps)
    rows = []
    for part in PARTS:
        forward, backward = (
            statistics.median(spent[part][i] for spent, _ in steps) for i in (0, 1)
        )
        seconds = forward + backward
        rows.append(
            {
                "part": part,
                "forward": forward,
                "backward": backward,
                "share": seconds / whole,
                "operations": counted[part],
                "of_peak": counted[part] / seconds / peak[options.precision] if seconds else 0.0,
            }
        )
    about = machine() | {"clock": options.clock, "precision": options.precision}
    about |= {"reduction": options.reduction, "attention": options.attention}
    if options.json:
        print(json.dumps({"machine": about, "peaks": peak, "seconds": whole, "rows": rows}))
        return 0
    print(", ".join(f"{name} {value}" for name, value in about.items() if name != "versions"))
    print(f"a step: {1000 * whole:.0f} ms; peak {peak[options.precision] / 1e9:.0f} GFLOP/s\n")
    print("| part | forward, ms | backward, ms | of the step | GFLOP | of peak |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        share = f"{100 * row['of_peak']:.0f} %" if row["operations"] else ""
        count = f"{row['operations'] / 1e9:.1f}" if row["operations"] else ""
        print(
            f"| {row['part']} | {1000 * row['forward']:.0f} | {1000 * row['backward']:.0f} "
            f"| {100 * row['share']:.0f} % | {count} | {share} |"
        )
    return 0


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    arguments.add_argument("--reduction", type=int, default=5, help="frames a decoder step")
    arguments.add_argument("--attention", default="bahdanau", help="bahdanau, forward")
    sys.exit(main(arguments.parse_args()))
