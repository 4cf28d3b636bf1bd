"""The sizes at which Tacotrons are compared, and tacoskip's network in them.

The paper's (Wang et al. 2017, table 1), and r9y9's, whose post-net has 80 channels in its bank, its
highways and its GRU, and whose attention has 256.
"""

from dataclasses import replace

import torch
from peers import Batch

from tacoskip.kernels.accelerate import accelerate
from tacoskip.models.settings import CBHGSettings, TacotronSettings
from tacoskip.models.tacotron import Tacotron

SYMBOLS, MELS, BINS = 60, 80, 1025
ENCODER = CBHGSettings()
POSTNET = CBHGSettings(bank_size=8, projection_channels=256)
Sizes = tuple[TacotronSettings, CBHGSettings, CBHGSettings]


def paper(reduction: int, attention: str = "bahdanau") -> Sizes:
    """Return Tacotron's own sizes; nothing of the true frames is hidden, as in the peers."""
    settings = TacotronSettings(
        attention=attention,
        attention_channels=256,
        frames_per_step=reduction,
        frame_dropout=0.0,
    )
    return settings, ENCODER, POSTNET


def r9y9(reduction: int) -> Sizes:
    """Return those of r9y9's network."""
    settings, encoder, postnet = paper(reduction)
    return settings, encoder, replace(postnet, bank_channels=80, channels=80, gru_channels=80)


def tacotron(sizes: Sizes) -> Tacotron:
    """Return tacoskip's network, freshly initialised, for one voice."""
    settings, encoder, postnet = sizes
    return accelerate(Tacotron(SYMBOLS, MELS, BINS, 1, settings, encoder, postnet))


def random_batch(items: int, symbols: int, frames: int) -> Batch:
    """Return a batch of noise in standardised features."""
    seed = torch.Generator().manual_seed(0)
    return Batch(
        torch.randint(1, SYMBOLS, (items, symbols), generator=seed),
        torch.randn(items, frames, MELS, generator=seed),
        torch.randn(items, frames, BINS, generator=seed),
    )
