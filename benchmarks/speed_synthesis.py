"""A decoder step; text to wave: one sentence of 9 s, the first audio of a long text, 32 sentences.

    python benchmarks/speed_synthesis.py [--rounds 3]

Networks of the paper's sizes, r = 5, with random weights, kept from stopping: 200 decoder steps
from a memory computed beforehand, and chains that turn 150 symbols into 720 frames (9 s). "plain"
is tacoskip's network without kernels. tacoskip's chain is `Voice`: normalisation, network, its
Griffin-Lim from an integrated phase (`GriffinLimSettings`). The peers' chain is their network and
torchaudio's Griffin-Lim with 60 iterations. Random spectra do not show how close either comes: see
speed_audio.py and griffin_lim.py. "first audio" is the time to the first samples of five such
sentences.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial

import peers
import sizes
import torch
import torchaudio
from timing import Comparison, Contestant, Options, main
from torch import Tensor

from tacoskip.config import Config
from tacoskip.models.tacotron import Tacotron
from tacoskip.synthesis import voice as synthesis
from tacoskip.text import Tokenizer

REDUCTION = 5
# A sentence of about 150 letters, which normalisation leaves unchanged.
SENTENCE = ("the quick brown fox jumps over the lazy dog and " * 4)[:149].strip() + "."


def decode(model: Tacotron, text: Tensor, steps: int) -> Callable[[], object]:
    """Return tacoskip's decoder alone, `steps` from its memory."""
    model.eval()
    mask = torch.ones_like(text, dtype=torch.bool)
    with torch.inference_mode():
        model.decoder.stop.bias.fill_(-100.0)
        memory = model.encoder(text, mask)
        speaker = memory.new_zeros(1, 0)

    @torch.inference_mode()
    def run() -> None:
        limit = torch.tensor([steps])
        mel = model.decoder.infer(memory, mask, speaker, REDUCTION, limit, steps + 1)[0]
        assert mel.shape[1] == steps * REDUCTION

    return run


def peer_decode(peer: peers.PeerTacotron, text: Tensor, steps: int) -> Callable[[], object]:
    """Return the peer's decoder alone, `steps` from its memory."""
    peer.model.eval()
    with torch.inference_mode():
        memory = peer.model.encoder(peer.model.embedding(text))

    @torch.inference_mode()
    def run() -> None:
        assert peer.decode(memory, steps) == steps

    return run


def decoder_steps(others: list[peers.PeerTacotron], symbols: int, steps: int) -> Comparison:
    text = sizes.random_batch(1, symbols, 1).symbols
    plain = sizes.tacotron(sizes.paper(REDUCTION))
    forward = sizes.tacotron(sizes.paper(REDUCTION, "forward"))
    models = {
        "tacoskip": sizes.accelerated(plain),
        "tacoskip, forward attention": sizes.accelerated(forward),
        "plain": plain,
    }
    contestants = [Contestant(name, decode(one, text, steps)) for name, one in models.items()]
    for one in others:
        contestants.append(Contestant(one.name, peer_decode(one, text, steps), peer=True))
    title = f"decoder step at inference, one sentence of {symbols} symbols, r = {REDUCTION}"
    return Comparison(title, "steps", steps, contestants)


def voice(frames: int, symbols: int, attention: str) -> synthesis.Voice:
    """Return a voice that synthesizes every sentence of `symbols` as `frames`."""
    chosen = sizes.paper(REDUCTION, attention)
    config = Config(tts=chosen[0])
    plain = sizes.tacotron(chosen, len(Tokenizer(config.text))).eval()
    with torch.no_grad():
        plain.decoder.stop.bias.fill_(-100.0)
        plain.linear_mean.fill_(-1.5)
        plain.linear_std.fill_(0.5)
    # A sentence is cut after a second and 2.5 times its symbols' expected frames.
    second = config.audio.frames_per_second
    frames_per_symbol = (frames - second) / symbols / 2.5
    return synthesis.Voice(sizes.accelerated(plain), config, ["one"], frames_per_symbol)


def chain(peer: peers.PeerTacotron, symbols: Tensor, frames: int) -> Callable[[], object]:
    """Return the peer's network and torchaudio's Griffin-Lim, sentence by sentence."""
    peer.model.eval()
    audio = Config().audio
    inverse = torchaudio.transforms.GriffinLim(
        audio.fft_length, 60, audio.window_length, audio.hop_length, power=1.0
    )

    @torch.inference_mode()
    def run() -> None:
        for row in symbols.split(1):
            linear = peer.synthesize(row, frames)[1][0]
            inverse(10 ** (linear.T.clamp(-5, 3)))

    return run


def synthesize(one: synthesis.Voice, texts: list[str], frames: int) -> None:
    speeches = one.synthesize(texts)
    assert isinstance(speeches, list)
    for speech in speeches:
        assert abs(len(speech.mel) - frames) <= 2 * REDUCTION, (len(speech.mel), frames)


def first_audio(one: synthesis.Voice, text: str) -> None:
    next(iter(one.stream(text)))


def comparisons(options: Options) -> Iterator[Comparison]:
    seconds, batch = (0.4, 2) if options.quick else (9.0, 32)
    frames = round(seconds * 80)
    synthesis.REST_SECONDS = 1e6  # random attention may rest on the last symbol from the start
    text = SENTENCE[:12] + "." if options.quick else SENTENCE
    length = len(Tokenizer().encode(text))
    symbols = torch.randint(1, sizes.SYMBOLS, (1, length))
    voices = {
        f"tacoskip, {attention}": voice(frames, length, attention)
        for attention in ("bahdanau", "forward")
    }
    builders = (peers.coqui_tacotron, peers.r9y9_tacotron)
    built = (build(sizes.SYMBOLS, sizes.BINS, REDUCTION) for build in builders)
    others = [peer for peer in built if peer]

    yield decoder_steps(others, *((6, 3) if options.quick else (100, 200)))

    def contestants(texts: list[str]) -> list[Contestant]:
        rows = symbols.expand(len(texts), -1)
        return [
            *(Contestant(n, partial(synthesize, v, texts, frames)) for n, v in voices.items()),
            *(
                Contestant(f"{peer.name}, torchaudio 60", chain(peer, rows, frames), peer=True)
                for peer in others
            ),
        ]

    title = f"text to wave, one sentence of {seconds:g} s"
    yield Comparison(title, "s of audio", seconds, contestants([text]))
    long = " ".join(text.capitalize() for _ in range(5))
    first = [Contestant(name, partial(first_audio, one, long)) for name, one in voices.items()]
    title = f"first audio of five sentences of {seconds:g} s, in a stream"
    yield Comparison(title, "starts", 1, first)
    title = f"text to wave, {batch} sentences of {seconds:g} s"
    yield Comparison(title, "s of audio", batch * seconds, contestants([text] * batch))


if __name__ == "__main__":
    sys.exit(main(__doc__, comparisons, rounds=3))
