"""Forced alignment against every path there is."""

import itertools

import pytest
import torch

from tacoskip.recognition.align import forced_units


def best_path(log_probs: torch.Tensor, units: tuple[int, ...]) -> tuple[int, ...]:
    def score(path: tuple[int, ...]) -> float:
        return float(log_probs[torch.arange(len(path)), torch.tensor(path)].sum())

    paths = itertools.product(range(log_probs.shape[1]), repeat=len(log_probs))
    spelled = (p for p in paths if tuple(u for u, _ in itertools.groupby(p) if u) == units)
    return max(spelled, key=score)


@pytest.mark.parametrize("units", [(1,), (1, 2), (2, 2), (1, 2, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_likeliest_path(units: tuple[int, ...], seed: int) -> None:
    torch.manual_seed(seed)
    log_probs = (2 * torch.randn(6, 3)).log_softmax(1)
    found = forced_units(log_probs, list(units))
    assert tuple(unit.index for unit in found) == units
    expected = best_path(log_probs, units)
    path = [0] * 6
    for unit in found:
        path[unit.first : unit.last + 1] = [unit.index] * (unit.last + 1 - unit.first)
        assert unit.score == pytest.approx(
            float(log_probs[unit.first : unit.last + 1, unit.index].max()), abs=1e-5
        )
    assert tuple(path) == expected
