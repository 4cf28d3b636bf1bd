"""Alignment scores and warnings of alignments drawn by hand."""

import numpy as np
import pytest
import torch

from tacoskip.synthesis.alignment import alignment_score, alignment_warnings


def diagonal(steps: int, symbols: int, peak: float = 1.0) -> np.ndarray:
    weights = np.full((steps, symbols), (1 - peak) / (symbols - 1))
    weights[np.arange(steps), np.arange(steps) * symbols // steps] = peak
    return weights


@pytest.mark.parametrize(("steps", "symbols"), [(120, 60), (60, 60), (30, 60), (5, 3), (1, 1)])
def test_perfect_diagonal_scores_one(steps: int, symbols: int) -> None:
    found = alignment_score(np.eye(1) if symbols == 1 else diagonal(steps, symbols))
    assert found.score == pytest.approx(1) and found.reached_end and not found.skipped


def test_blur_lowers_only_sharpness() -> None:
    found = alignment_score(diagonal(120, 60, peak=0.6))
    assert found.sharpness == pytest.approx(0.6)
    assert found.coverage == found.monotonic == 1


def test_uniform_random_and_backward_attention_score_low() -> None:
    rng = np.random.default_rng(0)
    assert alignment_score(np.full((120, 60), 1 / 60)).score < 0.01
    for steps, symbols in [(120, 60), (40, 10), (60, 100)]:
        random_sharp = np.eye(symbols)[rng.integers(symbols, size=steps)]
        assert alignment_score(random_sharp).score < 0.2
    backwards = alignment_score(diagonal(120, 60)[::-1])
    assert backwards.score < 0.01 and backwards.monotonic < 0.1


def test_stuck_attention_is_named() -> None:
    weights = diagonal(120, 60)
    weights[61:] = weights[60]
    weights += np.random.default_rng(0).random(weights.shape) * 1e-3  # a path may leak along noise
    found = alignment_score(weights)
    assert found.coverage == pytest.approx(31 / 60) and not found.reached_end
    assert found.last_symbol == 30 and found.score < 0.55
    assert alignment_warnings(weights, stopped=False) == [
        "attention stuck at symbol 31 of 60",
        "speech did not stop by itself",
    ]
    assert alignment_warnings(weights, stopped=True) == ["speech stopped early at symbol 31 of 60"]


def test_skipped_symbols_are_named() -> None:
    weights = np.delete(diagonal(120, 60), np.s_[40:60], axis=0)  # symbols 20 to 29
    found = alignment_score(weights)
    assert found.skipped == ((20, 29),) and found.reached_end
    assert found.coverage == pytest.approx(50 / 60) and found.monotonic == pytest.approx(99 / 100)
    assert alignment_warnings(weights, stopped=True) == ["attention skipped symbols 21 to 30 of 60"]


def test_skipped_start_is_named() -> None:
    assert alignment_score(diagonal(120, 60)[40:]).skipped == ((0, 19),)


def test_quick_symbols_are_not_skipped() -> None:
    """Three symbols may be passed in one step, as the silent letters of `thoughts` are."""
    weights = np.delete(diagonal(120, 60), np.s_[40:46], axis=0)
    assert alignment_score(weights).skipped == ()


def test_repeat_lowers_monotonic() -> None:
    once = diagonal(120, 60)
    weights = np.concatenate([once[:80], once[40:]])
    found = alignment_score(weights)
    assert found.monotonic == pytest.approx(1 - 40 / 160, abs=0.03)
    assert alignment_warnings(weights, stopped=True)[0].startswith("attention went back or jumped")


def test_one_stray_step_costs_one_step() -> None:
    weights = diagonal(120, 60)
    weights[0] = np.eye(60)[59]
    assert alignment_score(weights).monotonic == pytest.approx(119 / 120)


def test_nan_attention_scores_zero() -> None:
    weights = np.full((20, 10), np.nan)
    assert alignment_score(weights).score == 0
    assert "attention is blurred (mean weight 0.00)" in alignment_warnings(weights, stopped=True)


def test_good_alignment_has_no_warnings() -> None:
    assert alignment_warnings(torch.from_numpy(diagonal(120, 60, 0.7)), stopped=True) == []


# Spectral convergence
