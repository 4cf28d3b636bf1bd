"""Losses against a plain reading, item by item."""

import math

import pytest
import torch

from tacoskip.training.losses import guided_attention_loss, masked_l1, stop_loss


def test_masked_l1_is_the_mean_over_real_frames() -> None:
    torch.manual_seed(0)
    output, target, lengths = torch.randn(2, 5, 3), torch.randn(2, 5, 3), torch.tensor([5, 2])
    real = torch.cat([(output[0] - target[0]).abs(), (output[1, :2] - target[1, :2]).abs()])
    torch.testing.assert_close(masked_l1(output, target, lengths), real.mean())


def test_masked_l1_of_bfloat16_is_computed_in_float32() -> None:
    torch.manual_seed(0)
    output, target = torch.randn(3, 200, 41).bfloat16(), torch.randn(3, 200, 41)
    lengths, outcomes = torch.tensor([200, 3, 1]), []
    for x in (output.clone(), output.float()):
        loss = masked_l1(x.requires_grad_(), target, lengths)
        outcomes.append((loss.detach(), torch.autograd.grad(3 * loss, x)[0].float()))
    torch.testing.assert_close(outcomes[0][0], outcomes[1][0], atol=0, rtol=1e-6)
    torch.testing.assert_close(outcomes[0][1], outcomes[1][1], atol=0, rtol=0.004)


def test_stop_loss_counts_steps_up_to_the_last_real_one() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0, 9.0], [0.5, 8.0, 8.0, 8.0]])

    def entropy(logit: float, target: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -math.log(p if target else 1 - p)

    terms = [
        (entropy(0.3, 0), 1),
        (entropy(-1.0, 0), 1),
        (entropy(2.0, 1), 5),
        (entropy(0.5, 1), 5),
    ]
    expected = sum(e * w for e, w in terms) / sum(w for _, w in terms)
    # 8 frames are three steps of three; 2 frames are one step.
    got = stop_loss(logits, torch.tensor([8, 2]), reduction=3)
    assert math.isclose(float(got), expected, rel_tol=1e-5)


def test_guided_loss_by_hand() -> None:
    torch.manual_seed(0)
    alignments = torch.softmax(torch.randn(2, 4, 6), 2)
    total, steps = 0.0, 0
    for row, (length, symbols) in enumerate([(4, 6), (2, 3)]):
        for step in range(length):
            steps += 1
            for place in range(symbols):
                off = place / symbols - step / length
                weight = float(alignments[row, step, place])
                total += weight * (1 - math.exp(-(off**2) / (2 * 0.2**2)))
    alignments[1, :, 3:] = 0  # attention never lies on padding
    got = guided_attention_loss(alignments, torch.tensor([8, 4]), torch.tensor([6, 3]), 2)
    assert math.isclose(float(got), total / steps, rel_tol=1e-5)


def test_guided_loss_is_least_on_the_diagonal() -> None:
    diagonal, lengths = torch.eye(8)[None], torch.tensor([8])
    good = guided_attention_loss(diagonal, lengths, lengths, 1)
    bad = guided_attention_loss(diagonal.flip(1), lengths, lengths, 1)
    assert good < 0.01 < 0.5 < bad


def test_masked_l1_refuses_lengths_beyond_the_frames() -> None:
    with pytest.raises(ValueError, match="expected lengths <= 3"):
        masked_l1(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2), torch.tensor([4]))
