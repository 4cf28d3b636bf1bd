"""Attention mechanisms: what all promise, and what each paper says."""

import math

import pytest
import torch
from scipy.stats import betabinom

from tacoskip.masks import lengths_to_mask
from tacoskip.models.attention import ATTENTIONS

LENGTHS = torch.tensor([12, 7, 3])
MONOTONIC = ("forward", "stepwise_monotonic")


def run(name: str, steps: int = 8, pad: int = 0) -> torch.Tensor:
    """Weights (B, steps, S) of a fresh mechanism on random queries and memory."""
    torch.manual_seed(0)
    attention = ATTENTIONS[name](6, 5, 8).eval()
    memory, queries = torch.randn(3, 12, 5), torch.randn(steps, 3, 6) * 2
    memory = torch.cat([memory, torch.full((3, pad, 5), 9.0)], 1)
    mask = lengths_to_mask(LENGTHS, 12 + pad)
    keys = attention.keys(memory)
    state, weights = attention.start(keys), []
    for query in queries:
        weight, state = attention(query, keys, mask, state)
        assert state[0] is weight
        weights.append(weight)
    return torch.stack(weights, 1)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_contract(name: str) -> None:
    weights = run(name)
    mask = lengths_to_mask(LENGTHS)[:, None].expand_as(weights)
    assert weights.shape == (3, 8, 12)
    assert (weights >= 0).all()
    assert weights[~mask].abs().sum() == 0
    total = weights.sum(2)
    if name == "gmm":  # a density, which may lie beyond the text
        assert (total <= 1.2).all()
    else:
        torch.testing.assert_close(total, torch.ones_like(total), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_padding_changes_nothing(name: str) -> None:
    torch.testing.assert_close(run(name), run(name, pad=9)[:, :, :12], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", MONOTONIC)
def test_moves_at_most_one_symbol_a_step(name: str) -> None:
    weights = run(name)
    for step in range(weights.shape[1]):
        assert weights[:, step, step + 2 :].abs().sum() == 0


@pytest.mark.parametrize("name", ATTENTIONS)
def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    attention = ATTENTIONS[name](6, 5, 8)
    memory, mask = torch.randn(3, 12, 5), lengths_to_mask(LENGTHS)
    keys = attention.keys(memory)
    state, total = attention.start(keys), torch.tensor(0.0)
    for query in torch.randn(4, 3, 6):
        weights, state = attention(query, keys, mask, state)
        total = total + (weights * torch.arange(12)).square().sum()
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in attention.parameters())
    assert all(p.grad.abs().sum() > 0 for p in attention.parameters())


def test_dynamic_convolution_prior_is_the_papers() -> None:
    prior = ATTENTIONS["dynamic_convolution"](6, 5, 8).prior[0, 0].flip(0)
    expected = torch.tensor(betabinom.pmf(range(11), 10, 0.1, 0.9), dtype=torch.float32)
    torch.testing.assert_close(prior, expected, atol=1e-6, rtol=1e-5)
    assert math.isclose(float((prior * torch.arange(11)).sum()), 1.0, rel_tol=1e-5)


def test_gmm_starts_with_a_step_of_one_and_a_width_of_ten() -> None:
    gmm = ATTENTIONS["gmm"](6, 5, 8)
    with torch.no_grad():
        gmm.out.weight.zero_()
    keys = torch.randn(1, 60, 5)
    mask = torch.ones(1, 60, dtype=torch.bool)
    weights, (_, means) = gmm(torch.randn(1, 6), keys, mask, gmm.start(keys))
    torch.testing.assert_close(means, torch.ones(1, 5))
    places = torch.arange(60.0)
    density = torch.exp(-0.5 * ((places - 1) / 10) ** 2) / (10 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(weights[0], density, atol=1e-5, rtol=1e-3)


def test_stepwise_monotonic_equals_the_papers_recursion() -> None:
    torch.manual_seed(0)
    attention = ATTENTIONS["stepwise_monotonic"](6, 5, 8).eval()
    memory = torch.randn(1, 5, 5)
    keys, mask = attention.keys(memory), torch.ones(1, 5, dtype=torch.bool)
    state = attention.start(keys)
    expected = torch.tensor([1.0, 0, 0, 0, 0])
    for query in torch.randn(4, 1, 6):
        stay = torch.sigmoid(attention.energies(query, keys) + attention.stay_bias)[0]
        stay[-1] = 1.0
        after = torch.zeros(5)
        for s in range(5):
            after[s] = expected[s] * stay[s] + (expected[s - 1] * (1 - stay[s - 1]) if s else 0)
        expected = after
        weights, state = attention(query, keys, mask, state)
        torch.testing.assert_close(weights[0], expected.detach())


def test_forward_drops_what_was_left_behind_when_it_speaks() -> None:
    """Weight far behind could grow again and take the speech back; in training it may stay."""
    attention = ATTENTIONS["forward"](4, 6, 5)
    weights = torch.tensor([[0.2, 0.0, 0.05, 0.0, 0.0, 0.75, 0.0, 0.0]])
    mask = torch.ones(1, 8, dtype=torch.bool)
    keys = attention.keys(torch.randn(1, 8, 6))
    state = (weights, weights)
    kept, _ = attention(torch.randn(1, 4), keys, mask, state)
    assert kept[0, 0].item() > 0
    spoken, _ = attention.eval()(torch.randn(1, 4), keys, mask, state)
    assert spoken[0, :2].sum() == 0
    assert spoken[0, 2].item() > 0
    torch.testing.assert_close(spoken.sum(), torch.tensor(1.0))
