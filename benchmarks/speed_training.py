"""A training step of Tacotron, and a CBHG's forward and backward pass.

    python benchmarks/speed_training.py [--precision fp32,bf16] [--reductions 5,2] [--rounds 5]

A step is forward, losses, backward, clipping, AdamW: batch 32, 100 symbols, 800 mel frames, 1,025
linear bins, no padding, the same loss for all (mel and linear L1; half a stop loss where the
network has a stop). Memory is kept between steps for all, as in `tacoskip train`. CBHG is measured
at the encoder's size, 32 x 100 and one sentence; coqui's lacks the pool, r9y9's has ReLU before the
norm.

"plain" is tacoskip's network without kernels (TACOSKIP_KERNELS=0), with the same weights;
operations are counted on it. `loss difference` is relative to plain in fp32, without dropout;
`difference` the largest one between the outputs.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import peers
import sizes
import torch
from timing import Comparison, Contestant, Options, main, operations
from torch import Tensor, nn

from tacoskip.models.cbhg import CBHG
from tacoskip.training.memory import keep_memory

Forward = Callable[[Tensor], Tensor]


def step(model: nn.Module, loss: Callable[[], Tensor], precision: str) -> Callable[[], object]:
    """Return a function that takes one whole step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()

    def run() -> dict[str, float]:
        optimizer.zero_grad()
        with sizes.autocast(precision):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return {"loss": value.item()}

    return run


def loss_difference(reduction: int, precision: str, batch: peers.Batch) -> float:
    """Relative difference of the accelerated network's loss to the plain one's in fp32, without
    dropout.
    """
    settings, encoder, postnet = sizes.paper(reduction)
    model = sizes.tacotron((replace(settings, prenet_dropout=0.0), encoder, postnet))
    fast = sizes.accelerated(model, precision)
    expected = sizes.training_loss(model, batch).item()
    with sizes.autocast(precision):
        loss = sizes.training_loss(fast, batch).item()
    return abs(loss - expected) / expected


def tacoskip(chosen: sizes.Sizes, precision: str, batch: peers.Batch, name: str = "") -> Contestant:
    model = sizes.accelerated(sizes.tacotron(chosen), precision)
    run = step(model, partial(sizes.training_loss, model, batch), precision)
    return Contestant(f"tacoskip{name}", run)


def peer(
    build: peers.Builder, reduction: int, precision: str, batch: peers.Batch
) -> list[Contestant]:
    """Return the peer, if it is installed."""
    built = build(sizes.SYMBOLS, sizes.BINS, reduction)
    if built is None:
        return []
    run = step(built.model, partial(built.loss, batch), precision)
    return [Contestant(built.name, run, peer=True)]


def training_steps(reduction: int, precision: str, batch: peers.Batch) -> Iterator[Comparison]:
    plain = sizes.tacotron(sizes.paper(reduction))
    loss = partial(sizes.training_loss, plain, batch)
    count = operations(step(plain, loss, "fp32"))
    bahdanau = tacoskip(sizes.paper(reduction), precision, batch)
    bahdanau.figures["loss difference"] = loss_difference(reduction, precision, batch)
    contestants = [
        bahdanau,
        tacoskip(sizes.paper(reduction, "forward"), precision, batch, ", forward attention"),
        Contestant("plain", step(plain, loss, precision)),
        *peer(peers.coqui_tacotron, reduction, precision, batch),
    ]
    items, frames, _ = batch.mel.shape
    work, title = items * frames, f"training step, r = {reduction}, {precision}"
    yield Comparison(
        f"{title}, {items} x {batch.symbols.shape[1]} symbols, {frames} frames",
        *("frames", work, contestants, count, precision),
    )
    r9y9 = peer(peers.r9y9_tacotron, reduction, precision, batch)
    if r9y9:
        contestants = [tacoskip(sizes.r9y9(reduction), precision, batch), *r9y9]
        yield Comparison(f"{title}, r9y9's sizes", "frames", work, contestants)


def cbhgs(x: Tensor, precision: str) -> Iterator[tuple[str, nn.Module, Forward]]:
    """Name, network and forward pass of tacoskip's CBHG and of each peer that is installed."""
    plain, mask = CBHG(128, sizes.ENCODER), torch.ones(x.shape[:2], dtype=torch.bool)
    fast = sizes.accelerated(plain, precision)
    yield "tacoskip", fast, lambda x: fast(x, mask)
    yield "plain", plain, lambda x: plain(x, mask)
    if peers.load("coqui-tts", "TTS.tts.layers.tacotron.tacotron"):
        from TTS.tts.layers.tacotron.tacotron import EncoderCBHG

        coqui = EncoderCBHG()
        yield "coqui-tts", coqui, lambda x: coqui(x.transpose(1, 2))
    if peers.load("r9y9", "tacotron_pytorch"):
        from tacotron_pytorch.tacotron import CBHG as R9Y9

        r9y9 = R9Y9(128)
        yield "r9y9", r9y9, lambda x: r9y9(x, [x.shape[1]] * len(x))


def both_ways(model: nn.Module, forward: Forward, x: Tensor, precision: str) -> None:
    """Run forward and backward, to the input and to the weights."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    with sizes.autocast(precision):
        out = forward(x)
    out.float().square().mean().backward()


def cbhg_passes(items: int, length: int, precision: str) -> Comparison:
    x = torch.randn(items, length, 128, generator=torch.Generator().manual_seed(0))
    contestants, count, outputs = [], 0.0, []
    for name, model, forward in cbhgs(x, precision):
        run = partial(both_ways, model, forward, x, precision)
        contestants.append(Contestant(name, run, name not in ("tacoskip", "plain")))
        if name == "plain":
            count = operations(partial(both_ways, model, forward, x, "fp32"))
        with sizes.autocast(precision):
            outputs.append(forward(x).detach())
    contestants[0].figures["difference"] = float((outputs[0] - outputs[1]).abs().max())
    title = f"CBHG, encoder's size, {items} x {length}, forward + backward, {precision}"
    return Comparison(title, "frames", items * length, contestants, count, precision)


def comparisons(options: Options) -> Iterator[Comparison]:
    keep_memory()
    # Frames are a multiple of both reductions.
    batch = sizes.random_batch(*((1, 6, 10) if options.quick else (32, 100, 800)))
    precisions = options.precision.split(",")
    for reduction in map(int, options.reductions.split(",")):
        for precision in precisions:
            yield from training_steps(reduction, precision, batch)
    for items, length in ((1, 6),) if options.quick else ((32, 100), (1, 100)):
        for precision in precisions:
            yield cbhg_passes(items, length, precision)


OPTIONS = {"precision": "fp32,bf16", "reductions": "5,2"}

if __name__ == "__main__":
    sys.exit(main(__doc__, comparisons, rounds=5, **OPTIONS))
