"""The peers that are installed, behind one interface.

A peer that cannot be imported is named at the end of a script's output with the line that installs
it; the others run. Peers are unchanged: their own layers, their own order of norm and ReLU.

B batch, S symbols, T mel frames, M mels, F linear bins, N samples.
"""

import contextlib
import importlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from timing import ABSENT
from torch import Tensor, nn
from torch.nn import functional

BENCH = "pip install -e '.[bench]' -c constraints.txt"
INSTALL = {
    **dict.fromkeys(("coqui-tts", "pocketsphinx"), BENCH),
    "r9y9": "pip install --no-build-isolation git+https://github.com/r9y9/tacotron_pytorch",
}


def load(peer: str, module: str) -> ModuleType | None:
    """Import a peer's module, or note why it is absent and return None."""
    logging.getLogger("TTS").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module(module)
    except Exception as error:  # a peer may fail to import in any way
        why = str(error).strip().split("\n")[0]
        ABSENT[peer] = f"{type(error).__name__}: {why}; {INSTALL[peer]}"
        return None


@dataclass
class Batch:
    """A training batch without padding: symbols (B, S), mel (B, T, M), linear (B, T, F)."""

    symbols: Tensor
    mel: Tensor
    linear: Tensor

    @property
    def lengths(self) -> tuple[Tensor, Tensor]:
        """Symbols and frames of each item."""
        symbols, frames = (torch.full((len(x),), x.shape[1]) for x in (self.symbols, self.mel))
        return symbols, frames


def training_loss(mel: Tensor, linear: Tensor, stop: Tensor | None, batch: Batch) -> Tensor:
    """Tacoskip's loss on a batch without padding: mel and linear L1, half a stop loss if any."""
    loss = functional.l1_loss(mel, batch.mel) + functional.l1_loss(linear, batch.linear)
    if stop is None:
        return loss
    target = torch.zeros_like(stop)
    target[:, -1] = 1.0
    weight = 1 + 4 * target
    each = functional.binary_cross_entropy_with_logits(stop, target, reduction="none")
    return loss + 0.5 * (each * weight).sum() / weight.sum()


@dataclass
class PeerTacotron:
    """A peer's Tacotron: loss(batch) of a training step; decode(memory (1, S, C), steps) returns
    the number of decoder steps; synthesize(symbols (1, S), frames) returns mel and linear.
    """

    name: str
    model: nn.Module
    loss: Callable[[Batch], Tensor]
    decode: Callable[[Tensor, int], int]
    synthesize: Callable[[Tensor, int], tuple[Tensor, Tensor]]


Builder = Callable[[int, int, int], PeerTacotron | None]  # n_symbols, n_bins, reduction


def coqui_tacotron(n_symbols: int, n_bins: int, reduction: int) -> PeerTacotron | None:
    """coqui-tts' Tacotron in the paper's sizes, with its additive attention and its stop net."""
    if not load("coqui-tts", "TTS.tts.models.tacotron"):
        return None
    from TTS.tts.configs.shared_configs import BaseAudioConfig
    from TTS.tts.configs.tacotron_config import TacotronConfig
    from TTS.tts.models.tacotron import Tacotron

    config = TacotronConfig(
        audio=BaseAudioConfig(fft_size=2 * (n_bins - 1)),
        num_chars=n_symbols,
        out_channels=n_bins,
        r=reduction,
        location_attn=False,
        attention_norm="softmax",
    )
    with contextlib.redirect_stdout(io.StringIO()):
        model = Tacotron(config)

    def loss(batch: Batch) -> Tensor:
        out = model(batch.symbols, batch.lengths[0], batch.mel, batch.lengths[1])
        return training_loss(
            out["decoder_outputs"], out["model_outputs"], out["stop_tokens"], batch
        )

    def decode(memory: Tensor, steps: int) -> int:
        model.decoder.max_decoder_steps = steps - 1
        with _never_stops(model.decoder):
            return model.decoder.inference(memory)[0].shape[2] // reduction

    def synthesize(symbols: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        model.decoder.max_decoder_steps = frames // reduction - 1
        with _never_stops(model.decoder):
            out = model.inference(symbols, {"speaker_ids": None})
        return out["decoder_outputs"], out["model_outputs"]

    return PeerTacotron("coqui-tts", model, loss, decode, synthesize)


@contextlib.contextmanager
def _never_stops(decoder: Any) -> Any:
    """Keep an untrained coqui decoder from ending by its stop token or its attention."""
    decode, no_stop = decoder.decode, torch.full((1, 1), -10.0)

    def decode_on(inputs: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        output, _, attention = decode(inputs, mask)
        return output, no_stop, attention

    decoder.decode = decode_on
    try:
        yield
    finally:
        decoder.decode = decode


def r9y9_tacotron(n_symbols: int, n_bins: int, reduction: int) -> PeerTacotron | None:
    """r9y9's Tacotron: its post-net is 80 wide (bank, highways, GRU); no stop, no masks."""
    package = load("r9y9", "tacotron_pytorch")
    if not package:
        return None
    model = package.Tacotron(n_symbols, linear_dim=n_bins, r=reduction)

    def loss(batch: Batch) -> Tensor:
        lengths = batch.lengths[0].tolist()
        mel, linear, _ = model(batch.symbols, batch.mel, input_lengths=lengths)
        return training_loss(mel, linear, None, batch)

    def set_length(steps: int) -> None:
        """Decoding ends early where all bands of a step are low: keep one high."""
        model.decoder.max_decoder_steps = steps - 1
        with torch.no_grad():
            model.decoder.proj_to_mel.bias[0] = 100.0

    def decode(memory: Tensor, steps: int) -> int:
        set_length(steps)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a warning
            return model.decoder(memory)[0].shape[1]

    def synthesize(symbols: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        set_length(frames // reduction)
        with contextlib.redirect_stdout(io.StringIO()):
            mel, linear, _ = model(symbols)
        return mel, linear

    return PeerTacotron("r9y9", model, loss, decode, synthesize)
