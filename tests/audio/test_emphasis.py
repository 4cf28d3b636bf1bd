import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from tacoskip.audio.frames import deemphasis, preemphasis


@pytest.mark.parametrize("length", [0, 1, 2, 255, 256, 257, 70000])
def test_both_equal_scipy(length: int) -> None:
    x = np.random.default_rng(length).standard_normal(length)
    wave = torch.from_numpy(x)
    expected = lfilter([1, -0.97], [1], x) if length else x
    np.testing.assert_allclose(preemphasis(wave, 0.97), expected, atol=1e-12)
    expected = lfilter([1], [1, -0.97], x) if length else x
    np.testing.assert_allclose(deemphasis(wave, 0.97), expected, atol=1e-10)


def test_zero_coefficient_changes_nothing() -> None:
    wave = torch.randn(600)
    assert torch.equal(preemphasis(wave, 0.0), wave)
    torch.testing.assert_close(deemphasis(wave, 0.0), wave)


def test_preemphasis_of_a_batch_is_row_by_row() -> None:
    waves = torch.randn(2, 3, 50)
    expected = torch.stack([torch.stack([preemphasis(w, 0.9) for w in row]) for row in waves])
    torch.testing.assert_close(preemphasis(waves, 0.9), expected)


def test_loud_samples_are_not_clamped() -> None:
    assert deemphasis(torch.ones(400), 0.97).max() > 30
