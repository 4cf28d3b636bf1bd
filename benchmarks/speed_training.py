"""A training step of Tacotron, here and in the peers: forward, losses, backward, clipping, AdamW.

    python benchmarks/speed_training.py [--precision fp32,bf16] [--reductions 5,2] [--json]

Batch 32, 100 symbols, 800 mel frames, 1,025 linear bins, no padding, the same loss for all (mel and
linear L1; half a stop loss where the network has a stop). "plain" is the paper read plainly with
torch's modules (plain.py): the same mathematics as tacoskip's with Bahdanau's attention, from the
same weights. `loss difference` is the relative one to plain without dropout. Operations are counted
on plain, and are what the share of the peak is made of. Memory is kept between steps for everybody,
as `tacoskip train` keeps it.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import peers
import plain
import sizes
import torch
from timing import Contestant, Race, main, operations, parser
from torch import Tensor, nn

from tacoskip.models.tacotron import Tacotron
from tacoskip.training.losses import masked_l1, stop_loss
from tacoskip.training.memory import keep_memory


def autocast(precision: str) -> AbstractContextManager[object]:
    """Return the reduced precision of everybody."""
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def our_loss(model: Tacotron, batch: peers.Batch) -> Tensor:
    """Mel, linear and stop loss, weighed as in a recipe."""
    symbols, frames = batch.lengths
    speakers = torch.zeros_like(symbols)
    out = model(batch.symbols, symbols, batch.mel, frames, speakers)
    loss = masked_l1(out.mel, batch.mel, frames) + masked_l1(out.linear, batch.linear, frames)
    return loss + 0.5 * stop_loss(out.stop_logits, frames, model.reduction)


def plain_loss(model: plain.Tacotron, batch: peers.Batch) -> Tensor:
    mel, linear, stop = model(batch.symbols, batch.mel)
    return peers.plain_loss(mel, linear, stop, batch)


def step(model: nn.Module, loss: Callable[[], Tensor], precision: str) -> Callable[[], object]:
    """Return a function that takes one whole step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()

    def run() -> dict[str, float]:
        optimizer.zero_grad()
        with autocast(precision):
            found = loss()
        found.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return {"loss": found.item()}

    return run


def loss_difference(reduction: int, precision: str, batch: peers.Batch) -> float:
    """How far tacoskip's loss is from that of plain in fp32, relatively; dropout switched off."""
    settings, encoder, postnet = sizes.paper(reduction)
    still = replace(settings, prenet_dropout=0.0), encoder, postnet
    ours = sizes.tacotron(still)
    theirs = plain.Tacotron(sizes.SYMBOLS, sizes.MELS, sizes.BINS, *still)
    theirs.take(ours)
    with torch.no_grad():
        expected = plain_loss(theirs, batch).item()
        with autocast(precision):
            found = our_loss(ours, batch).item()
    return abs(found - expected) / expected


def races(options: argparse.Namespace) -> Iterator[Race]:
    # Frames are a multiple of both reductions.
    batch = sizes.random_batch(*((1, 6, 10) if options.quick else (32, 100, 800)))
    shape = f"{len(batch.mel)} x {batch.symbols.shape[1]} symbols, {batch.mel.shape[1]} frames"
    work, bins = batch.mel.shape[0] * batch.mel.shape[1], sizes.BINS
    reductions = [5] if options.quick else [int(r) for r in options.reductions.split(",")]
    for reduction in reductions:
        for precision in ("fp32",) if options.quick else options.precision.split(","):
            base = plain.Tacotron(sizes.SYMBOLS, sizes.MELS, bins, *sizes.paper(reduction))
            count = operations(step(base, lambda m=base: plain_loss(m, batch), "fp32"))  # type: ignore[misc]
            named = f"training step, r = {reduction}, {precision}, {shape}"
            coqui = peers.coqui_tacotron(sizes.SYMBOLS, bins, reduction)
            ours = _ours(sizes.paper(reduction), "tacoskip", precision, batch)
            ours.figures["loss difference"] = loss_difference(reduction, precision, batch)
            contestants = [
                ours,
                _ours(
                    sizes.paper(reduction, "forward"),
                    "tacoskip, forward attention",
                    precision,
                    batch,
                ),
                Contestant("plain", step(base, lambda m=base: plain_loss(m, batch), precision)),  # type: ignore[misc]
                *_peer(coqui, precision, batch),
            ]
            yield Race(f"{named}, the paper's sizes", "frames", work, contestants, count, precision)
            r9y9 = peers.r9y9_tacotron(sizes.SYMBOLS, bins, reduction)
            if r9y9:
                ours = _ours(sizes.r9y9(reduction), "tacoskip", precision, batch)
                both = [ours, *_peer(r9y9, precision, batch)]
                yield Race(f"{named}, r9y9's sizes", "frames", work, both)


def _ours(found: sizes.Sizes, name: str, precision: str, batch: peers.Batch) -> Contestant:
    model = sizes.tacotron(found)
    return Contestant(name, step(model, lambda: our_loss(model, batch), precision))


def _peer(peer: peers.PeerTacotron | None, precision: str, batch: peers.Batch) -> list[Contestant]:
    if peer is None:
        return []
    run = step(peer.model, lambda: peer.loss(batch), precision)
    return [Contestant(peer.name, run, peer=True)]


if __name__ == "__main__":
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--precision", default="fp32,bf16", help="fp32, bf16, or both")
    arguments.add_argument("--reductions", default="5,2", help="frames a decoder step")
    chosen = arguments.parse_args()
    keep_memory()
    sys.exit(main(chosen, races(chosen)))
