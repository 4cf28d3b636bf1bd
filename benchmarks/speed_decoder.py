"""A decoder step at inference, one sentence of 100 symbols: here and in the peers.

    python benchmarks/speed_decoder.py [--rounds 7] [--json]

200 steps of pre-net, attention, GRUs and output, r = 5, from a memory that is there; nobody stops.
Untrained networks: every step costs the same.
"""

import argparse
import sys
from collections.abc import Callable, Iterator

import peers
import plain
import sizes
import torch
from timing import Contestant, Race, main, parser

REDUCTION = 5


@torch.inference_mode()
def races(options: argparse.Namespace) -> Iterator[Race]:
    symbols, steps = (6, 3) if options.quick else (100, 200)
    text = sizes.random_batch(1, symbols, 1).symbols
    contestants = [
        Contestant("tacoskip", ours(text, steps, "bahdanau")),
        Contestant("tacoskip, forward attention", ours(text, steps, "forward")),
        Contestant("plain", plainly(text, steps)),
    ]
    coqui = peers.coqui_tacotron(sizes.SYMBOLS, sizes.BINS, REDUCTION)
    if coqui:
        contestants.append(Contestant(coqui.name, peer_steps(coqui, text, steps), peer=True))
    r9y9 = peers.r9y9_tacotron(sizes.SYMBOLS, sizes.BINS, REDUCTION)
    if r9y9:
        contestants.append(Contestant(r9y9.name, peer_steps(r9y9, text, steps), peer=True))
    claim = f"decoder step at inference, one sentence of {symbols} symbols, r = {REDUCTION}"
    yield Race(claim, "steps", steps, contestants)


def ours(text: torch.Tensor, steps: int, attention: str) -> Callable[[], object]:
    model = sizes.tacotron(sizes.paper(REDUCTION, attention)).eval()
    with torch.no_grad():
        model.decoder.stop.bias.fill_(-100.0)
    mask = torch.ones_like(text, dtype=torch.bool)
    with torch.inference_mode():
        memory = model.encoder(text, mask)
    speaker, limit = memory.new_zeros(1, 0), torch.tensor([steps])

    @torch.inference_mode()
    def run() -> None:
        mel = model.decoder.infer(memory, mask, speaker, REDUCTION, limit, steps + 1)[0]
        assert mel.shape[1] == steps * REDUCTION

    return run


def plainly(text: torch.Tensor, steps: int) -> Callable[[], object]:
    model = plain.Tacotron(sizes.SYMBOLS, sizes.MELS, sizes.BINS, *sizes.paper(REDUCTION)).eval()
    with torch.inference_mode():
        memory, keys, start = model.begin(text)

    @torch.inference_mode()
    def run() -> None:
        frame, state = memory.new_zeros(1, sizes.MELS), start
        for _ in range(steps):
            found, _, state = model.step(frame, memory, keys, state)
            frame = found[:, -sizes.MELS :]

    return run


def peer_steps(peer: peers.PeerTacotron, text: torch.Tensor, steps: int) -> Callable[[], object]:
    """Return the peer's decoder alone, which is what `steps` from its memory makes."""
    peer.model.eval()
    with torch.inference_mode():
        memory = peer.model.encoder(peer.model.embedding(text))

    @torch.inference_mode()
    def run() -> None:
        assert peer.decode(memory, steps) == steps

    return run


if __name__ == "__main__":
    chosen = parser(__doc__, rounds=7).parse_args()
    sys.exit(main(chosen, races(chosen)))
