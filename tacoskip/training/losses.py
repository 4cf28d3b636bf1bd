"""Losses. The keys of a loss dictionary are the tags TensorBoard shows.

B batch, T mel frames, L decoder steps or encoder frames, S symbols, C channels, V tokens.
"""

import torch
from torch import Tensor
from torch.nn import functional

from tacoskip.masks import lengths_to_mask, subsampled

STOP_WEIGHT = 5.0  # of the one step that stops, beside those that do not
GUIDED_WIDTH = 0.2  # sigma, of the band around the diagonal


def masked_l1(output: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
    """Mean absolute difference over real frames: (B, T, C), (B, T, C), lengths (B,) -> scalar.

    The target has no gradient.
    """
    mask = lengths_to_mask(lengths, target.shape[1])
    norms = torch.linalg.vector_norm(output - target, 1, dim=2)
    total = norms.masked_fill(~mask, 0.0).sum()
    return total / (mask.sum() * target.shape[2])


def stop_loss(logits: Tensor, mel_lengths: Tensor, reduction: int) -> Tensor:
    """Cross entropy of "this step holds the last frame", up to that step: logits (B, L),
    mel_lengths (B,) -> scalar.

    The one true step of each item weighs STOP_WEIGHT times as much.
    """
    steps = subsampled(mel_lengths, reduction)
    mask = lengths_to_mask(steps, logits.shape[1])
    target = (torch.arange(logits.shape[1], device=logits.device) == steps[:, None] - 1).float()
    weight = mask * (1 + (STOP_WEIGHT - 1) * target)
    loss = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return (loss * weight).sum() / weight.sum()


def guided_attention_loss(
    alignments: Tensor, mel_lengths: Tensor, symbol_lengths: Tensor, reduction: int
) -> Tensor:
    """Attention weight off the diagonal: sum_s a(l, s) (1 - exp(-(s/S - l/L)^2 / 2 sigma^2)),
    averaged over real steps.

    alignments (B, L, S), mel_lengths (B,), symbol_lengths (B,) -> scalar in [0, 1]. Tachibana et
    al. 2017, summed over symbols instead of averaged, so that it does not shrink with longer texts.
    """
    steps = subsampled(mel_lengths, reduction)
    mask = lengths_to_mask(steps, alignments.shape[1])
    device = alignments.device
    time = torch.arange(alignments.shape[1], device=device) / steps[:, None]
    position = torch.arange(alignments.shape[2], device=device) / symbol_lengths[:, None]
    distance = position[:, None, :] - time[:, :, None]
    penalty = 1 - torch.exp(-distance.square() / (2 * GUIDED_WIDTH**2))
    return ((alignments * penalty).sum(2) * mask).sum() / mask.sum()


def duration_loss(log_durations: Tensor, durations: Tensor, symbol_lengths: Tensor) -> Tensor:
    """Mean absolute difference of log(1 + frames) over real symbols: (B, S), (B, S) in frames,
    symbol_lengths (B,) -> scalar.
    """
    mask = lengths_to_mask(symbol_lengths, durations.shape[1])
    difference = (log_durations.float() - durations.float().log1p()).abs()
    return (difference * mask).sum() / mask.sum()


def ctc_losses(
    log_probs: Tensor, lengths: Tensor, symbols: Tensor, symbol_lengths: Tensor
) -> Tensor:
    """CTC's negative log likelihood of each utterance (Graves et al. 2006); token 0 is the blank.

    log_probs (B, L, V), lengths (B,), symbols (B, S), symbol_lengths (B,) -> (B,). It is 0 for an
    utterance too short for its text; training names it at the start.
    """
    # One transfer: torch takes both lengths, and cuDNN the symbols, from the CPU.
    on_host = torch.cat([lengths[:, None], symbol_lengths[:, None], symbols], 1).cpu()
    lengths, on_cpu, symbols = on_host[:, 0], on_host[:, 1], on_host[:, 2:]
    if torch.are_deterministic_algorithms_enabled():
        log_probs = log_probs.cpu()  # CUDA's backward is not deterministic
    inputs = log_probs.transpose(0, 1), symbols, lengths, on_cpu
    losses: Tensor = functional.ctc_loss(*inputs, reduction="none", zero_infinity=True)
    return losses


def ctc_loss(log_probs: Tensor, lengths: Tensor, symbols: Tensor, symbol_lengths: Tensor) -> Tensor:
    """Mean of `ctc_losses` over tokens: a scalar."""
    losses = ctc_losses(log_probs, lengths, symbols, symbol_lengths)
    count = symbol_lengths.sum().clamp(min=1)
    return losses.sum().to(count.device) / count


def spelling_loss(spelled: Tensor, symbols: Tensor, symbol_lengths: Tensor) -> Tensor:
    """Cross entropy of each next token, the end (token 0) included: spelled (B, S + 1, V), symbols
    (B, S) padded with 0, symbol_lengths (B,) -> scalar.
    """
    expected = functional.pad(symbols, (0, 1))
    mask = lengths_to_mask(symbol_lengths + 1, expected.shape[1])
    losses = -spelled.gather(2, expected[:, :, None])[:, :, 0]
    return (losses * mask).sum() / mask.sum()
