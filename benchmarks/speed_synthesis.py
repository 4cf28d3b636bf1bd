"""Text to wave: one sentence of 9 s, the first audio of a long text, a batch of 32 sentences.

    python benchmarks/speed_synthesis.py [--rounds 3] [--json]

Networks of the paper's sizes, r = 5, with random weights that are made to go on: every chain turns
150 symbols into 720 frames (9 s). tacoskip by `Voice`: normalisation, network, its Griffin-Lim from
an integrated phase (`GriffinLimSettings`). The peers' chain is their network and torchaudio's
Griffin-Lim with 60 iterations. Random spectra say nothing about how near either comes:
speed_griffin_lim.py and griffin_lim.py do. "first audio" is from the call to the first samples of
five such sentences.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import peers
import sizes
import torch
import torchaudio
from timing import Contestant, Race, main, parser
from torch import Tensor

from tacoskip.config import Config
from tacoskip.run_folder import build_tacotron
from tacoskip.synthesis import voice as inference
from tacoskip.text import Tokenizer

REDUCTION = 5
# Sentences of letters, so that nothing is normalised away; a sentence is about 150 symbols.
SENTENCE = ("the quick brown fox jumps over the lazy dog and " * 4)[:149].strip() + "."


def voice(frames: int, symbols: int, attention: str) -> inference.Voice:
    """Return a voice that says every sentence of `symbols` in `frames`."""
    settings, encoder, postnet = sizes.paper(REDUCTION, attention)
    config = Config(tts=settings, cbhg=encoder, postnet=postnet)
    config = replace(config, block="highway")
    model = build_tacotron(config, len(Tokenizer(config.text)), 1).eval()
    with torch.no_grad():
        model.decoder.stop.bias.fill_(-100.0)
        model.linear_mean.fill_(-1.5)
        model.linear_std.fill_(0.5)
    # A sentence may last a second and 2.5 times its symbols' share: that is where it is cut.
    second = config.audio.frames_per_second
    return inference.Voice(model, config, ["one"], (frames - second) / symbols / 2.5)


def chain(
    peer: peers.PeerTacotron, symbols: Tensor, frames: int, audio: Config
) -> Callable[[], object]:
    """Return the peer's network and torchaudio's Griffin-Lim, sentence by sentence."""
    peer.model.eval()
    settings = audio.audio
    inverse = torchaudio.transforms.GriffinLim(
        settings.fft_length, 60, settings.window_length, settings.hop_length, power=1.0
    )

    @torch.inference_mode()
    def run() -> None:
        for row in symbols.split(1):
            linear = peer.speak(row, frames)[1][0]
            inverse(10 ** (linear.T.clamp(-5, 3)))

    return run


def races(options: argparse.Namespace) -> Iterator[Race]:
    seconds, batch = (0.4, 2) if options.quick else (9.0, 32)
    frames = round(seconds * 80)
    inference.REST_SECONDS = 1e6  # random attention may lie on the last symbol from the start
    text = SENTENCE[:12] + "." if options.quick else SENTENCE
    length = len(Tokenizer().encode(text))
    symbols = torch.randint(1, sizes.SYMBOLS, (1, length))
    config = Config()
    voices = {
        "tacoskip, bahdanau": voice(frames, length, "bahdanau"),
        "tacoskip, forward": voice(frames, length, "forward"),
    }
    made = {
        name: peer
        for name, peer in (
            ("coqui-tts", peers.coqui_tacotron(sizes.SYMBOLS, sizes.BINS, REDUCTION)),
            ("r9y9", peers.r9y9_tacotron(sizes.SYMBOLS, sizes.BINS, REDUCTION)),
        )
        if peer
    }

    def contestants(texts: list[str]) -> list[Contestant]:
        rows = symbols.expand(len(texts), -1)
        ours = [
            Contestant(name, lambda v=v: _spoken(v, texts, frames))  # type: ignore[misc]
            for name, v in voices.items()
        ]
        theirs = [
            Contestant(f"{name}, torchaudio 60", chain(peer, rows, frames, config), peer=True)
            for name, peer in made.items()
        ]
        return ours + theirs

    yield Race(
        f"text to wave, one sentence of {seconds:g} s", "s of audio", seconds, contestants([text])
    )
    long = " ".join(text.capitalize() for _ in range(5))
    first = [
        Contestant(name, lambda v=v: len(next(iter(v.stream(long)))))  # type: ignore[misc]
        for name, v in voices.items()
    ]
    claim = f"first audio of five sentences of {seconds:g} s, in a stream"
    yield Race(claim, "starts", 1, first)
    yield Race(
        f"text to wave, {batch} sentences of {seconds:g} s",
        "s of audio",
        batch * seconds,
        contestants([text] * batch),
    )


def _spoken(one: inference.Voice, texts: list[str], frames: int) -> None:
    speeches = one.synthesize(texts)
    assert isinstance(speeches, list)
    for speech in speeches:
        assert abs(len(speech.mel) - frames) <= 2 * REDUCTION, (len(speech.mel), frames)


if __name__ == "__main__":
    chosen = parser(__doc__, rounds=3).parse_args()
    sys.exit(main(chosen, races(chosen)))
