"""A recognizer: log mels in, CTC posteriors of letters out, on the same CBHG as the voice.

    mel -> normalised by its utterance and the corpus -> SpecAugment -> strided convolutions
        -> CBHG x layers -> linear -> log softmax over tokens, the first of them CTC's blank
           (Graves et al. 2006)
        -> with asr.decoder=attention also `Speller`

Every layer sees real frames only, so that neither output nor batch statistics depend on padding.

B batch, T mel frames, L encoder frames (T / subsampling, rounded up), M mels, C channels, V
tokens of the vocabulary.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.layers import MaskedBatchNorm1d, masked_mean
from tacoskip.masks import clear_padding, lengths_to_mask, subsampled
from tacoskip.models.cbhg import CBHG, BiGRU
from tacoskip.models.initial import start_gru
from tacoskip.models.settings import CBHGSettings, RecognizerSettings
from tacoskip.models.speller import Speller

# Deviation (in log10 of magnitude) below which a band counts as silent: 2 dB.
LEAST_DEVIATION = 0.1
# Weight of the corpus' statistics in an utterance's normalisation, as seconds of speech. Without
# them single digits have 23 % of errors (docs/explanation/recognizer.md).
CORPUS_SECONDS = 3.0
TIME_MASK_SHARE = 0.1  # of an utterance that one stretch hides at most


@dataclass
class RecognizerOutput:
    """log_probs (B, L, V) float32, memory (B, L, C) of the last CBHG, lengths (B,) of both.

    spelled (B, S + 1, V): the speller's log probabilities of the given text, where there is one.
    """

    log_probs: Tensor
    memory: Tensor
    lengths: Tensor
    spelled: Tensor | None = None


def normalize(mel: Tensor, mask: Tensor, mean: Tensor, std: Tensor, prior: float) -> Tensor:
    """Give each band mean 0 and deviation 1 over an utterance's real frames and `prior` frames more
    of the corpus, whose bands have `mean` and `std` (M,) below the loudest frame.

    mel (B, T, M), mask (B, T) -> (B, T, M), zero at padded frames. Loudness falls out; in a long
    utterance so do microphone and room, while of a single word, whose own mean is the word itself,
    the corpus is the better judge.
    """
    loudest = mel.mean(2).masked_fill(~mask, -torch.inf).amax(1)
    mel = mel - loudest[:, None, None] - mean
    weight = 1 / (1 + prior / mask.sum(1, keepdim=True).clamp(min=1))
    centre = weight * masked_mean(mel, mask)
    mel = mel - centre[:, None]
    variance = weight * masked_mean(mel.square(), mask) + (1 - weight) * (std**2 + centre**2)
    deviation = variance.sqrt().clamp(min=LEAST_DEVIATION)
    return clear_padding(mel / deviation[:, None], mask)


class SpecAugment(nn.Module):
    """Hides stretches of time and bands of frequency in training (Park et al. 2019).

    forward: x (B, T, M) of mean 0, lengths (B,) -> (B, T, M). What is drawn does not depend on
    padding.
    """

    def __init__(self, time_masks: int, frequency_masks: int, bands: int):
        super().__init__()
        self.time_masks, self.time_share = time_masks, TIME_MASK_SHARE
        self.frequency_masks, self.bands = frequency_masks, bands

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if not self.training:
            return x
        frames = torch.arange(x.shape[1], device=x.device)
        mels = torch.arange(x.shape[2], device=x.device)
        for _ in range(self.time_masks):
            hidden = self._stretch(frames, lengths, lengths * self.time_share)
            x = x.masked_fill(hidden[:, :, None], 0.0)
        for _ in range(self.frequency_masks):
            count = torch.full_like(lengths, x.shape[2])
            x = x.masked_fill(self._stretch(mels, count, count.clamp(max=self.bands))[:, None], 0)
        return x

    def _stretch(self, positions: Tensor, sizes: Tensor, longest: Tensor) -> Tensor:
        """Bool (B, N): a stretch of 0..`longest` (B,) positions (N,) in the first `sizes` (B,)."""
        drawn = torch.rand(2, len(sizes), device=positions.device)
        width = (drawn[0] * (longest + 1)).floor()
        start = (drawn[1] * (sizes - width + 1)).floor()
        return (positions >= start[:, None]) & (positions < (start + width)[:, None])


class StridedConv(nn.Module):
    """Convolution of width 5, batch norm, ReLU; `stride` 2 keeps every second frame, the first one
    among them.

    forward: x (B, T, in), lengths (B,) -> (B, L, out), lengths.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv1d(in_channels, out_channels, 5, stride, padding=2, bias=False)
        self.norm = MaskedBatchNorm1d(out_channels, relu=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = clear_padding(x, lengths_to_mask(lengths, x.shape[1]))
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)  # (B, T, C) -> (B, C, T) and back
        lengths = subsampled(lengths, self.stride)
        return self.norm(x, lengths_to_mask(lengths, x.shape[1])), lengths


class Recognizer(nn.Module):
    """The whole network. frames_per_second: of its mels."""

    mel_mean: Tensor
    mel_std: Tensor

    def __init__(
        self,
        n_mels: int,
        n_tokens: int,
        frames_per_second: float,
        settings: RecognizerSettings,
        cbhg: CBHGSettings,
    ):
        super().__init__()
        self.n_mels, self.subsampling = n_mels, settings.subsampling
        self.prior = CORPUS_SECONDS * frames_per_second
        self.register_buffer("mel_mean", torch.zeros(n_mels))
        self.register_buffer("mel_std", torch.ones(n_mels))
        self.augment = SpecAugment(
            settings.time_masks, settings.frequency_masks, settings.frequency_mask_bands
        )
        strides = [2] * (settings.subsampling.bit_length() - 1) or [1]
        widths = [n_mels, *([settings.channels] * len(strides))]
        self.convolutions = nn.ModuleList(
            StridedConv(*layer) for layer in zip(widths, widths[1:], strides, strict=False)
        )
        width = 2 * cbhg.gru_channels
        widths = [settings.channels, *([width] * (settings.layers - 1))]
        self.layers = nn.ModuleList(CBHG(one, cbhg) for one in widths)
        for module in self.layers.modules():
            if isinstance(module, BiGRU):
                start_gru(module)
        self.dropout = nn.Dropout(settings.dropout)
        self.output = nn.Linear(width, n_tokens)
        spells = settings.decoder == "attention"
        self.speller = Speller(width, n_tokens, settings) if spells else None

    def take_statistics(self, mels: Iterable[Tensor]) -> None:
        """Learn how the corpus' log mels (T, M) lie below their loudest frame."""
        below = torch.cat([mel - mel.mean(1).max() for mel in mels]).double()
        self.mel_mean.copy_(below.mean(0))
        self.mel_std.copy_(below.std(0, unbiased=False))

    def example(self, frames: int = 400) -> tuple[Tensor, Tensor]:
        """Inputs of `forward` for one utterance of zeros, to count on."""
        weight = self.output.weight
        return weight.new_zeros(1, frames, self.n_mels), torch.tensor([frames]).to(weight.device)

    def forward(
        self, mel: Tensor, mel_lengths: Tensor, symbols: Tensor | None = None
    ) -> RecognizerOutput:
        """Read log mels (B, T, M) with mel_lengths (B,); padded frames may hold anything.

        symbols (B, S): the text, for a speller to learn; padded with 0.
        """
        mask = lengths_to_mask(mel_lengths, mel.shape[1])
        x = normalize(mel, mask, self.mel_mean, self.mel_std, self.prior)
        x, lengths = self.augment(x, mel_lengths), mel_lengths
        for convolution in self.convolutions:
            x, lengths = convolution(x, lengths)
        mask = lengths_to_mask(lengths, x.shape[1])
        for layer in self.layers:
            x = self.dropout(layer(x, mask))
        log_probs = functional.log_softmax(self.output(x).float(), dim=2)
        spelled = None
        if self.speller is not None and symbols is not None:
            spelled = self.speller(x, mask, symbols)
        return RecognizerOutput(log_probs, x, lengths, spelled)
