"""Masked layers against torch's own on the unpadded input."""

import torch
from torch import nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, MaskedConv1d
from tacoskip.masks import lengths_to_mask

LENGTHS = torch.tensor([7, 4, 1])
MASK = lengths_to_mask(LENGTHS)


def test_batch_norm_counts_real_frames_only() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 7, 5) * 3 + 1
    ours, theirs = MaskedBatchNorm1d(5), nn.BatchNorm1d(5)
    output = ours(x, MASK)
    torch.testing.assert_close(output[MASK], theirs(x[MASK]))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert output[~MASK].abs().sum() == 0
    torch.testing.assert_close(ours.eval()(x, MASK)[MASK], theirs.eval()(x[MASK]))


def test_convolution_sees_zeros_on_padding() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 7, 5)
    conv = MaskedConv1d(5, 4, 3)
    output = conv(x, MASK)
    for row, length in enumerate(LENGTHS.tolist()):
        plain = nn.functional.conv1d(
            x[row, :length].T[None], conv.conv.weight, conv.conv.bias, padding=1
        )
        torch.testing.assert_close(output[row, :length], plain[0].T)
