"""Losses. The keys of a loss dictionary are the tags TensorBoard shows.

B batch, T mel frames, L decoder steps, S symbols, M mels, F linear bins.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tacoskip.masks import lengths_to_mask


def masked_l1(output: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
    """Mean absolute difference over real frames: (B, T, C), (B, T, C), lengths (B,) -> scalar.

    The target has no gradient.
    """
    mask = lengths_to_mask(lengths, target.shape[1])
    if output.is_cuda:
        total = ((output - target).abs().sum(2) * mask).sum()
    else:
        total = _Distance.apply(output, target, lengths.tolist())
    return total / (mask.sum() * target.shape[2])


class _Distance(torch.autograd.Function):
    """Summed absolute difference over real frames, item by item: a linear spectrogram's whole batch
    is 100 MB, which autograd would walk through a dozen times.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, target: Tensor, lengths: list[int]) -> Tensor:
        ctx.save_for_backward(output, target)
        ctx.lengths = lengths
        each = zip(output, target, lengths, strict=True)
        return torch.stack(
            [functional.l1_loss(o[:n], t[:n], reduction="sum") for o, t, n in each]
        ).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        output, target = ctx.saved_tensors
        slope = torch.empty_like(output)
        for s, o, t, n in zip(slope, output, target, ctx.lengths, strict=True):
            s[:n] = (o[:n] - t[:n]).sign_().mul_(grads[0])
            s[n:] = 0.0
        return slope, None, None


def stop_loss(
    logits: Tensor, mel_lengths: Tensor, reduction: int, positive_weight: float
) -> Tensor:
    """Cross entropy of "this step holds the last frame", up to that step: logits (B, L),
    mel_lengths (B,) -> scalar.

    The one true step of each item weighs `positive_weight` times as much.
    """
    steps = torch.div(mel_lengths + reduction - 1, reduction, rounding_mode="floor")
    mask = lengths_to_mask(steps, logits.shape[1])
    target = (torch.arange(logits.shape[1], device=logits.device) == steps[:, None] - 1).float()
    weight = mask * (1 + (positive_weight - 1) * target)
    return (
        functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
        * weight
    ).sum() / weight.sum()


def guided_attention_loss(
    alignments: Tensor, mel_lengths: Tensor, symbol_lengths: Tensor, reduction: int, sigma: float
) -> Tensor:
    """Weight that lies off the diagonal: sum_s a(l, s) (1 - exp(-(s/S - l/L)^2 / 2 sigma^2)),
    meaned over real steps.

    alignments (B, L, S), mel_lengths (B,), symbol_lengths (B,) -> scalar in [0, 1]. Tachibana et
    al. 2017, summed over symbols instead of meaned, so that it does not shrink with the text's
    length.
    """
    steps = torch.div(mel_lengths + reduction - 1, reduction, rounding_mode="floor")
    mask = lengths_to_mask(steps, alignments.shape[1])
    device = alignments.device
    time = torch.arange(alignments.shape[1], device=device) / steps[:, None]
    place = torch.arange(alignments.shape[2], device=device) / symbol_lengths[:, None]
    distance = place[:, None, :] - time[:, :, None]
    penalty = 1 - torch.exp(-distance.square() / (2 * sigma**2))
    return ((alignments * penalty).sum(2) * mask).sum() / mask.sum()


def ctc_loss(log_probs: Tensor, lengths: Tensor, symbols: Tensor, symbol_lengths: Tensor) -> Tensor:
    """CTC's negative log likelihood a unit (Graves et al. 2006); unit 0 is the blank.

    log_probs (B, L, U), lengths (B,), symbols (B, S), symbol_lengths (B,) -> scalar. An utterance
    too short for its text adds nothing: training has named it before.
    """
    total = functional.ctc_loss(
        log_probs.transpose(0, 1),
        symbols,
        lengths,
        symbol_lengths,
        reduction="none",
        zero_infinity=True,
    ).sum()
    return total / symbol_lengths.sum().clamp(min=1)


def spelling_loss(spelled: Tensor, symbols: Tensor, symbol_lengths: Tensor) -> Tensor:
    """Cross entropy of each next unit, the end (unit 0) included: spelled (B, S + 1, U), symbols
    (B, S) padded with 0, symbol_lengths (B,) -> scalar.
    """
    wanted = functional.pad(symbols, (0, 1))
    mask = lengths_to_mask(symbol_lengths + 1, wanted.shape[1])
    each = -spelled.gather(2, wanted[:, :, None])[:, :, 0]
    return (each * mask).sum() / mask.sum()
