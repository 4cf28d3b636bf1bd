"""Sizes at which Tacotrons are compared, and tacoskip's network in them, plain and accelerated.

The paper's sizes (Wang et al. 2017, table 1), and those of r9y9's network: a post-net with 80
channels in bank, highways and GRU, and 256 in attention.
"""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TypeVar

import torch
from peers import Batch
from torch import Tensor, nn

from tacoskip.kernels.accelerate import accelerate
from tacoskip.models.settings import CBHGSettings, TacotronSettings
from tacoskip.models.tacotron import Tacotron
from tacoskip.training.losses import masked_l1, stop_loss

SYMBOLS, MELS, BINS = 60, 80, 1025
ENCODER = CBHGSettings()
POSTNET = CBHGSettings(bank_size=8, projection_channels=256)
Sizes = tuple[TacotronSettings, CBHGSettings, CBHGSettings]
Model = TypeVar("Model", bound=nn.Module)


def paper(reduction: int, attention: str = "bahdanau") -> Sizes:
    """Return Tacotron's own sizes; no true frames are dropped, as in the peers."""
    settings = TacotronSettings(
        attention=attention,
        attention_channels=256,
        frames_per_step=reduction,
        frame_dropout=0.0,
    )
    return settings, ENCODER, POSTNET


def r9y9(reduction: int) -> Sizes:
    """Return the sizes of r9y9's network."""
    settings, encoder, postnet = paper(reduction)
    return settings, encoder, replace(postnet, bank_channels=80, channels=80, gru_channels=80)


def tacotron(sizes: Sizes, n_symbols: int = SYMBOLS) -> Tacotron:
    """Return tacoskip's plain network, freshly initialised, for one voice."""
    settings, encoder, postnet = sizes
    return Tacotron(n_symbols, MELS, BINS, 1, settings, encoder, postnet)


def accelerated(model: Model, precision: str = "fp32") -> Model:
    """Return a copy of a network with the same weights and the kernels that a run would use."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return accelerate(copy.deepcopy(model), torch.device("cpu"), dtype)


def autocast(precision: str) -> AbstractContextManager[object]:
    """Return the context of a precision, for tacoskip and peers alike."""
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def random_batch(items: int, symbols: int, frames: int) -> Batch:
    """Return a batch of noise in standardised features."""
    seed = torch.Generator().manual_seed(0)
    return Batch(
        torch.randint(1, SYMBOLS, (items, symbols), generator=seed),
        torch.randn(items, frames, MELS, generator=seed),
        torch.randn(items, frames, BINS, generator=seed),
    )


def training_loss(model: Tacotron, batch: Batch) -> Tensor:
    """Mel, linear and stop loss of tacoskip's network, weighted as in a recipe."""
    symbols, frames = batch.lengths
    output = model(batch.symbols, symbols, batch.mel, frames, torch.zeros_like(symbols))
    loss = masked_l1(output.mel, batch.mel, frames) + masked_l1(output.linear, batch.linear, frames)
    return loss + 0.5 * stop_loss(output.stop_logits, frames, model.reduction)
