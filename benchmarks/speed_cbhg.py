"""CBHG at the encoder's size, 32 x 100 and one sentence: forward and backward, here and elsewhere.

    python benchmarks/speed_cbhg.py [--rounds 7] [--json]

"plain" is the paper read plainly with torch's modules, with tacoskip's weights; `difference` is the
largest one between their outputs. coqui's lacks the pool, r9y9's has ReLU before the norm.
"""

import argparse
import sys
from collections.abc import Callable, Iterator

import peers
import plain
import sizes
import torch
from speed_training import autocast
from timing import Contestant, Race, main, operations, parser
from torch import Tensor, nn

from tacoskip.kernels.accelerate import accelerate
from tacoskip.models.cbhg import CBHG


def both_ways(
    model: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor, precision: str
) -> Callable[[], object]:
    """Return a function that runs forward and backward, to the input and to the weights."""
    x = x.clone().requires_grad_()

    def run() -> None:
        model.zero_grad()
        with autocast(precision):
            out = forward(x)
        out.float().square().mean().backward()

    return run


def races(options: argparse.Namespace) -> Iterator[Race]:
    shapes = ((1, 6),) if options.quick else ((32, 100), (1, 100))
    for items, length in shapes:
        x = torch.randn(items, length, 128, generator=torch.Generator().manual_seed(0))
        mask = torch.ones(items, length, dtype=torch.bool)
        for precision in ("fp32", "bf16"):
            ours = accelerate(CBHG(128, sizes.ENCODER))
            base = plain.CBHG(128, sizes.ENCODER)
            base.take(ours)
            count = operations(both_ways(base, base, x, "fp32"))
            with torch.no_grad(), autocast(precision):
                difference = float((ours(x, mask) - base(x)).abs().max())
            run = both_ways(ours, lambda x: ours(x, mask), x, precision)  # noqa: B023
            contestants = [
                Contestant("tacoskip", run, figures={"difference": difference}),
                Contestant("plain", both_ways(base, base, x, precision)),
            ]
            if peers.load("coqui-tts", "TTS.tts.layers.tacotron.tacotron"):
                from TTS.tts.layers.tacotron.tacotron import EncoderCBHG

                theirs = EncoderCBHG()

                def coqui(x: Tensor, model: nn.Module = theirs) -> Tensor:
                    return model(x.transpose(1, 2))

                run = both_ways(theirs, coqui, x, precision)
                contestants.append(Contestant("coqui-tts", run, peer=True))
            if peers.load("r9y9", "tacotron_pytorch"):
                from tacotron_pytorch.tacotron import CBHG as THEIRS

                theirs = THEIRS(128)

                def r9y9(x: Tensor, model: nn.Module = theirs) -> Tensor:
                    return model(x, [x.shape[1]] * len(x))

                run = both_ways(theirs, r9y9, x, precision)
                contestants.append(Contestant("r9y9", run, peer=True))
            claim = f"CBHG, encoder's size, {items} x {length}, forward + backward, {precision}"
            yield Race(claim, "frames", items * length, contestants, count, precision)


if __name__ == "__main__":
    chosen = parser(__doc__, rounds=7).parse_args()
    sys.exit(main(chosen, races(chosen)))
