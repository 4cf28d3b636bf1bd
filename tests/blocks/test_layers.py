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
    ours.total = lambda own: (processes * own, True)
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
        plain = nn.functional.conv1d(
            x[row, :length].T[None], conv.conv.weight, conv.conv.bias, padding=1
        )
        torch.testing.assert_close(output[row, :length], plain[0].T)


@pytest.mark.parametrize(("rectify", "pool"), [(False, False), (True, False), (True, True)])
def test_batch_norm_and_what_follows_it(rectify: bool, pool: bool) -> None:
    """Outputs and gradients of the norm, its ReLU and its max pool, by torch's own layers."""
    torch.manual_seed(0)
    x = (torch.randn(3, 7, 5, dtype=torch.float64) * 3 + 1).requires_grad_()
    ours, theirs = MaskedBatchNorm1d(5).double(), nn.BatchNorm1d(5).double()
    for norm in (ours, theirs):
        nn.init.uniform_(norm.weight)
        nn.init.normal_(norm.bias)
    theirs.load_state_dict(ours.state_dict())

    def plain() -> torch.Tensor:
        y = torch.zeros_like(x)
        y[MASK] = theirs(x[MASK])
        y = y.relu() if rectify else y
        if pool:
            padded = nn.functional.pad(y.transpose(1, 2), (0, 1))
            y = nn.functional.max_pool1d(padded, 2, 1).transpose(1, 2)
        return y

    found, expected = ours(x, MASK, rectify, pool), plain()
    torch.testing.assert_close(found, expected)
    pull = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, [x, *ours.parameters()], pull),
        torch.autograd.grad(expected, [x, *theirs.parameters()], pull),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x, MASK, rectify, pool), plain())
