"""Masked layers against torch's own on the unpadded input."""

import pytest
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


@pytest.mark.parametrize("processes", [1, 2])
def test_batch_norm_shared_by_processes(processes: int) -> None:
    """Processes with the same rows add up to that many times the batch: torch's norm of it."""
    torch.manual_seed(0)
    x = (torch.randn(3, 7, 5, dtype=torch.float64) * 3 + 1).requires_grad_()
    weight = torch.randn(3, 7, 5, dtype=torch.float64)
    ours, theirs = MaskedBatchNorm1d(5).double(), nn.BatchNorm1d(5).double()
    with torch.no_grad():
        ours.weight.copy_(torch.randn(5))
        theirs.weight.copy_(ours.weight)
    ours.total = lambda x: processes * x  # type: ignore[method-assign]
    whole = x[MASK].detach().repeat(processes, 1).requires_grad_()
    output, expected = ours(x, MASK), theirs(whole)
    (output * weight).sum().backward()
    (expected * weight[MASK].repeat(processes, 1)).sum().backward()
    own = int(MASK.sum())
    torch.testing.assert_close(output[MASK], expected[:own])
    assert output[~MASK].abs().sum() == 0
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert int(ours.num_batches_tracked) == 1
    assert whole.grad is not None and x.grad is not None
    torch.testing.assert_close(x.grad[MASK], whole.grad[:own])
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(processes * mine.grad, its.grad)
    ours.momentum, before = 0.0, ours.running_mean.clone()  # as in a pass that is rebuilt
    ours(x, MASK)
    assert torch.equal(ours.running_mean, before)


def test_convolution_sees_zeros_on_padding() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 7, 5)
    conv = MaskedConv1d(5, 4, 3)
    output = conv(x, MASK)
    for row, length in enumerate(LENGTHS.tolist()):
        plain = nn.functional.conv1d(x[row, :length].T[None], conv.weight, conv.bias, padding=1)
        torch.testing.assert_close(output[row, :length], plain[0].T)
