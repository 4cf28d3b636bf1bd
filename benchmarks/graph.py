"""What train.graph gives: norms and stacks fused by torch.compile, the attention's loop captured.

    python benchmarks/graph.py [--device cuda] [--batches 32,128] [--precision fp32,bf16] [--json]

Parts, forward and backward, 800 frames: the norm with ReLU and pool behind the post-net's bank, and
the post-net's stack, as they are and compiled. On a GPU then a whole training step at the paper's
sizes (that of speed_training.py), r = 5, for each batch size: plain, with train.graph, and beside
both torchaudio's Tacotron2 (mel only). `busy` is the share of a step in which the GPU runs a
kernel. On a CPU nothing can be captured, and the steps are left out.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator

import sizes
import torch
import torchaudio
from peers import Batch
from speed_training import our_loss
from timing import Contestant, Race, main, parser
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.models.capture import Captured, fuse
from tacoskip.models.cbhg import CBHG
from tacoskip.training.memory import keep_memory

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def part(forward: Callable[[], Tensor], pull: Tensor, precision: str) -> Callable[[], object]:
    """Return a function that runs forward and backward, and waits for the device."""

    def run() -> None:
        with torch.autocast(pull.device.type, torch.bfloat16, enabled=precision == "bf16"):
            out = forward()
        out.backward(pull.to(out.dtype))
        if pull.is_cuda:
            torch.cuda.synchronize()

    return run


def parts(device: str, precision: str, items: int, frames: int) -> Iterator[Race]:
    plain = CBHG(sizes.MELS, sizes.POSTNET).to(device).train()
    fused = copy.deepcopy(plain)
    why_not = fuse(fused)
    if why_not:
        sys.exit(f"cannot compile here: {why_not}")
    mask = torch.ones(items, frames, dtype=torch.bool, device=device)
    mask[1:, -frames // 10 :] = False
    width = sizes.POSTNET.bank_size * sizes.POSTNET.bank_channels
    banked = torch.randn(items, frames, width, device=device).to(DTYPES[precision])
    h = torch.randn(items, frames, sizes.POSTNET.channels, device=device).to(DTYPES[precision])
    for name, x in (("norm, ReLU and pool of the bank", banked), ("stack", h)):
        x.requires_grad_()
        pull = torch.randn_like(x)

        def norm(network: CBHG, x: Tensor = x) -> Tensor:
            assert network.bank is not None
            return network.bank.norm(x, mask, pool=True)

        def stack(network: CBHG, x: Tensor = x) -> Tensor:
            if network.fused:
                return network.fused(network.stack, x, mask)
            return network.stack(x, mask)  # type: ignore[no-any-return]

        call = stack if name == "stack" else norm
        contestants = [
            Contestant(kind, part(lambda n=network, c=call: c(n), pull, precision))  # type: ignore[misc]
            for kind, network in (("plain", plain), ("fused", fused))
        ]
        yield Race(f"{name}, {precision}, {device}", "frames", items * frames, contestants)


def step(model: nn.Module, loss: Callable[[], Tensor], precision: str) -> Callable[[], object]:
    """Return a function that takes one training step on a GPU, and says how busy that was."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            found = loss()
        found.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        torch.cuda.synchronize()

    def first() -> dict[str, float]:
        for _ in range(4):  # graphs are captured when a shape comes again
            run()
        began = time.perf_counter()
        with torch.profiler.profile() as profile:
            run()
        spent = time.perf_counter() - began
        busy = sum(event.self_device_time_total for event in profile.key_averages())
        return {"busy": busy / 1e6 / spent}

    measured = False

    def either() -> object:
        nonlocal measured
        if measured:
            return run()
        measured = True
        return first()

    return either


def steps(precision: str, items: int) -> Race:
    found = sizes.random_batch(items, 100, 800)
    batch = Batch(found.symbols.cuda(), found.mel.cuda(), found.linear.cuda())
    contestants = []
    for kind in ("plain", "train.graph"):
        model = sizes.tacotron(sizes.paper(5)).cuda()
        if kind == "train.graph":
            model.decoder.loop = Captured()
            fuse(model)
        run = step(model, lambda m=model: our_loss(m, batch), precision)  # type: ignore[misc]
        contestants.append(Contestant(kind, run))
    peer = torchaudio.models.Tacotron2(n_symbol=sizes.SYMBOLS, n_mels=sizes.MELS).cuda()
    symbols, frames = batch.lengths

    def loss() -> Tensor:
        target = batch.mel.transpose(1, 2)
        first, after, _, _ = peer(batch.symbols, symbols, target, frames)
        return functional.l1_loss(first, target) + functional.l1_loss(after, target)

    contestants.append(Contestant("torchaudio, Tacotron2", step(peer, loss, precision), peer=True))
    named = f"training step, r = 5, {precision}, {items} x 100 symbols, 800 frames, cuda"
    return Race(named, "frames", items * 800, contestants)


def races(options: argparse.Namespace) -> Iterator[Race]:
    precisions = ("fp32",) if options.quick else options.precision.split(",")
    for precision in precisions:
        yield from parts(options.device, precision, *((2, 20) if options.quick else (32, 800)))
    if options.device == "cuda":
        for precision in precisions:
            for items in options.batches.split(","):
                yield steps(precision, int(items))


if __name__ == "__main__":
    arguments = parser(__doc__, rounds=7)
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument("--batches", default="32,128", help="clips a batch, on a GPU")
    arguments.add_argument("--precision", default="fp32,bf16", help="fp32, bf16, or both")
    chosen = arguments.parse_args()
    keep_memory()
    sys.exit(main(chosen, races(chosen)))
