"""Where a training step goes: forward and backward of each part, and their share of the peak.

    python benchmarks/step_parts.py [--precision fp32] [--reduction 5] [--attention bahdanau]

The step of speed_training.py: batch 32, 100 symbols, 800 mel frames. A part ends when its output is
there, and in the backward pass when the gradient of its input is. Operations are counted on the
network without kernels; "of peak" is relative to the machine's measured peak.
"""

import statistics
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import sizes
import torch
from peers import Batch
from timing import Clock, parser, percent, print_table, start
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tacoskip.models.tacotron import Tacotron
from tacoskip.training.memory import keep_memory

CBHG = {
    "bank": ("bank",),
    "projections": ("project1", "project2", "widen"),
    "highways": ("stack",),
    "GRU": ("gru",),
}
LOOP, OUTPUTS = "decoder: attention loop", "decoder: residual GRUs, frames, stop"
# The modules of each part, by name.
PARTS: dict[str, tuple[str, ...]] = {
    "encoder: embedding, pre-net": ("encoder.prenet",),
    **{f"encoder: {part}": tuple(f"encoder.cbhg.{n}" for n in ns) for part, ns in CBHG.items()},
    "decoder: pre-net": ("decoder.prenet",),
    LOOP: ("decoder.loop",),
    OUTPUTS: tuple(f"decoder.{n}" for n in ("project_in", "grus.0", "grus.1", "frames", "stop")),
    **{f"post-net: {part}": tuple(f"postnet.{n}" for n in ns) for part, ns in CBHG.items()},
    "linear": ("linear",),
    "losses": (),
    "clipping, AdamW": (),
}


class Marks:
    """The time at the end of each part, forward and backward, of one step."""

    def __init__(self, model: Tacotron, clock: Clock) -> None:
        self.clock = clock
        self.forward: list[tuple[str, float]] = []
        self.backward: list[tuple[str, float]] = []
        for network, cbhg in (("encoder", model.encoder.cbhg), ("post-net", model.postnet)):
            assert cbhg.bank is not None
            first = "encoder: embedding, pre-net" if network == "encoder" else OUTPUTS
            self._before(cbhg.bank, first)
            self._behind(cbhg.bank, f"{network}: bank")
            self._before(cbhg.stack, f"{network}: projections")
            self._behind(cbhg.stack, f"{network}: highways")
            self._behind(cbhg.gru, f"{network}: GRU")
        self._behind(model.decoder.prenet, "decoder: pre-net")
        self._before(model.decoder.project_in, LOOP)
        self._behind(model.linear, "linear")

    def _before(self, module: nn.Module, part: str) -> None:
        module.register_forward_pre_hook(lambda _, inputs: self.set(inputs[0], part))

    def _behind(self, module: nn.Module, part: str) -> None:
        module.register_forward_hook(lambda *arguments: self.set(arguments[2], part))

    def set(self, x: Tensor, part: str) -> None:
        """Mark the end of a part, whose output is x."""
        self.forward.append((part, self.clock()))
        x.register_hook(lambda _: self.backward.append((part, self.clock())))

    def seconds(self, end: float) -> dict[str, list[float]]:
        """Forward and backward time of each part, of a backward pass that ended at `end`."""
        seconds = {part: [0.0, 0.0] for part in PARTS}
        for (_, before), (part, after) in pairwise(self.forward):
            seconds[part][0] += after - before
        # The gradient reaches the end of a part first, then the end of the part before it.
        for (part, before), (_, after) in pairwise([*self.backward, ("", end)]):
            seconds[part][1] += after - before
        return seconds


def count_operations(model: Tacotron, batch: Batch) -> dict[str, float]:
    """Floating point operations of each part: three times those of its forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        sizes.training_loss(model, batch)
    counts = {name: 3.0 * sum(each.values()) for name, each in counter.get_flop_counts().items()}
    return {
        part: sum(counts.get(f"Tacotron.{name}", 0.0) for name in names)
        for part, names in PARTS.items()
    }


def training_step(
    model: Tacotron, batch: Batch, precision: str, clock: Clock
) -> Callable[[], tuple[dict[str, list[float]], float]]:
    """Return a function that takes a step and returns the parts' times and the whole."""
    optimizer, marks = torch.optim.AdamW(model.parameters(), lr=1e-4), Marks(model, clock)

    def run() -> tuple[dict[str, list[float]], float]:
        optimizer.zero_grad()
        marks.forward, marks.backward = [("", clock())], []
        with sizes.autocast(precision):
            loss = sizes.training_loss(model, batch)
        marks.set(loss, "losses")
        loss.backward()
        end = clock()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds, stepped = marks.seconds(end), clock()
        seconds["clipping, AdamW"][0] = stepped - end
        return seconds, stepped - marks.forward[0][1]

    return run


def main() -> int:
    options = parser(__doc__, precision="fp32", reduction="5", attention="bahdanau").parse_args()
    keep_memory()
    clock, peaks, _ = start(options)
    batch = sizes.random_batch(*((1, 6, 10) if options.quick else (32, 100, 800)))
    plain = sizes.tacotron(sizes.paper(int(options.reduction), options.attention)).train()
    operations = count_operations(plain, batch)
    model = sizes.accelerated(plain, options.precision)
    step = training_step(model, batch, options.precision, clock)
    step()
    steps = [step() for _ in range(1 if options.quick else options.rounds)]
    whole = statistics.median(total for _, total in steps)
    rows = list[dict[str, Any]]()
    for part in PARTS:
        forward, backward = (statistics.median(each[part][i] for each, _ in steps) for i in (0, 1))
        rate = operations[part] / (forward + backward) if operations[part] else None
        row = {
            "part": part,
            "forward, ms": f"{1000 * forward:.0f}",
            "backward, ms": f"{1000 * backward:.0f}",
            "of the step": percent((forward + backward) / whole),
            "GFLOP": f"{operations[part] / 1e9:.1f}" if operations[part] else None,
            "of peak": percent(rate and rate / peaks[options.precision]),
        }
        rows.append(row)
    title = f"a step: {1000 * whole:.0f} ms; {options.precision}, r = {options.reduction}"
    print_table(rows, f"{title}, {options.attention} attention")
    return 0


if __name__ == "__main__":
    sys.exit(main())
