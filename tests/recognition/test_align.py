"""Forced alignment against every path there is."""

import itertools

import pytest
import torch

from tacoskip.recognition.decode import align_tokens


def best_path(log_probs: torch.Tensor, tokens: tuple[int, ...]) -> tuple[int, ...]:
    def score(path: tuple[int, ...]) -> float:
        return float(log_probs[torch.arange(len(path)), torch.tensor(path)].sum())

    paths = itertools.product(range(log_probs.shape[1]), repeat=len(log_probs))
    spelled = (
        p for p in paths if tuple(token for token, _ in itertools.groupby(p) if token) == tokens
    )
    return max(spelled, key=score)


@pytest.mark.parametrize("tokens", [(1,), (1, 2), (2, 2), (1, 2, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_likeliest_path(tokens: tuple[int, ...], seed: int) -> None:
    torch.manual_seed(seed)
    log_probs = (2 * torch.randn(6, 3)).log_softmax(1)
    found = align_tokens(log_probs, list(tokens))
    assert tuple(token.index for token in found) == tokens
    expected = best_path(log_probs, tokens)
    path = [0] * 6
    for token in found:
        path[token.first : token.last + 1] = [token.index] * (token.last + 1 - token.first)
        assert token.score == pytest.approx(
            float(log_probs[token.first : token.last + 1, token.index].max()), abs=1e-5
        )
    assert tuple(path) == expected
