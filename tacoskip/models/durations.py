"""Durations in the place of attention: every symbol's memory is held for as long as it is spoken.

After Non-Attentive Tacotron (Shen et al. 2020, arXiv 2010.04301) and FastSpeech (Ren et al. 2019,
arXiv 1905.09263). In training a forced alignment of the recordings tells the durations; a predictor
learns them. Departures: durations are in frames of mel; the width of the Gaussian upsampling
follows from them; the decoder is a CBHG over all steps at once, which sees no earlier frame, so
that training and synthesis run the same network.

Shapes: B batch, S symbols, T mel frames, R frames a step, L = T / R steps, M mels, C memory
channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.layers import SameConv1d
from tacoskip.masks import clear_padding, lengths_to_mask, subsampled
from tacoskip.models.cbhg import CBHG
from tacoskip.models.settings import CBHGSettings, TacotronSettings
from tacoskip.precision import full_precision

DURATIONS = "durations"  # the value of `tts.attention` that chooses this decoder
DROPOUT = 0.3  # of the predictor
WIDTH, LEAST_WIDTH = 0.3, 0.2  # of a symbol's Gaussian: in durations, and in steps beside
LEAST_FRAMES = 8  # of a text
LONGEST = 6.0  # log(1 + frames) of one symbol: 5 seconds at 80 frames a second


class DurationPredictor(nn.Module):
    """memory (B, S, C), mask (B, S) -> log(1 + frames) of each symbol (B, S).

    The encoder learns nothing from it: the gradient stops at the memory.
    """

    def __init__(self, memory_channels: int, channels: int):
        super().__init__()
        widths = (memory_channels, channels)
        self.convs = nn.ModuleList(SameConv1d(width, channels, 3) for width in widths)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in widths)
        self.dropout = nn.Dropout(DROPOUT)
        self.out = nn.Linear(channels, 1)

    def forward(self, memory: Tensor, mask: Tensor) -> Tensor:
        x = memory.detach()
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.dropout(norm(torch.relu(conv(clear_padding(x, mask)))))
        return self.out(x)[:, :, 0]


def upsampling_weights(durations: Tensor, steps: int, reduction: int) -> Tensor:
    """How much each step reads of each symbol: durations (B, S) in frames -> (B, L, S), float32.

    A Gaussian around the middle of each symbol, as wide as the symbol is long; every step's weights
    sum to 1, and symbols of no duration have none.
    """
    with full_precision(durations):
        durations = durations.float() / reduction
        centre = durations.cumsum(1) - durations / 2
        width = WIDTH * durations + LEAST_WIDTH
        middle = torch.arange(steps, device=durations.device) + 0.5
        distance = (middle[:, None] - centre[:, None]) / width[:, None]
        energies = -distance.square() / 2
        return torch.softmax(energies.masked_fill((durations == 0)[:, None], -1e4), 2)


def synthesis_weights(
    log_durations: Tensor, mask: Tensor, max_frames: Tensor, reduction: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Round predicted log durations (B, S) to whole frames, cut at max_frames (B,).

    Returns the weights (B, L, S), the frames of each item (B,), and whether it was not cut (B,).
    """
    frames = log_durations.clamp(0, LONGEST).expm1().round().long().masked_fill(~mask, 0)
    end = functional.pad(frames.cumsum(1), (1, 0))
    durations = torch.minimum(end, max_frames[:, None]).diff(dim=1)
    durations[:, 0] += (LEAST_FRAMES - durations.sum(1)).clamp(min=0)
    lengths = durations.sum(1)
    steps = -(-int(lengths.max()) // reduction)
    return upsampling_weights(durations, steps, reduction), lengths, end[:, -1] <= max_frames


class DurationDecoder(nn.Module):
    """memory (B, S, C) as the steps read it, weights (B, L, S) -> mel (B, L * R, M)."""

    def __init__(
        self, memory_channels: int, n_mels: int, settings: TacotronSettings, cbhg: CBHGSettings
    ):
        super().__init__()
        schedule = [r for _, r in settings.reduction_schedule]
        self.n_mels = n_mels
        self.max_reduction = max([settings.frames_per_step, *schedule])
        self.predictor = DurationPredictor(memory_channels, settings.attention_channels)
        self.cbhg = CBHG(memory_channels, cbhg)
        self.frames = nn.Linear(self.cbhg.out_channels, self.max_reduction * n_mels)

    def forward(
        self, memory: Tensor, weights: Tensor, mel_lengths: Tensor, reduction: int
    ) -> Tensor:
        """weights: of `upsampling_weights`. mel_lengths (B,): the sums of the durations."""
        mask = lengths_to_mask(subsampled(mel_lengths, reduction), weights.shape[1])
        x = self.cbhg(torch.bmm(weights.to(memory.dtype), memory), mask)
        mel = self.frames(x)[:, :, : reduction * self.n_mels]
        return mel.reshape(mel.shape[0], -1, self.n_mels)
