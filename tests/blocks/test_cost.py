"""What a block costs, against counting by hand."""

import pytest
import torch

from tacoskip.blocks import build_block
from tacoskip.blocks.cost import (
    initial_correlation,
    latency_ms,
    macs_per_frame,
    parameters,
    receptive_field,
)


def test_counts_by_hand() -> None:
    highway, residual = build_block("highway", 8, 2), build_block("residual", 8, 2)
    assert parameters(highway) == 2 * 2 * (8 + 1) * 8
    assert macs_per_frame(highway, 8) == 2 * 2 * 8 * 8
    assert macs_per_frame(residual, 8) == 2 * 2 * 3 * 8 * 8
    assert parameters(residual) == 2 * 2 * (3 * 8 * 8 + 2 * 8)
    assert (receptive_field(highway, 8), receptive_field(residual, 8)) == (1, 9)
    assert receptive_field(build_block("nonlocal", 8, 1), 8) is None
    assert latency_ms(residual, 8) > 0


def test_initial_correlation_is_one_of_the_identity_and_changes_nothing() -> None:
    torch.manual_seed(0)
    plain, residual = build_block("plain", 8, 4).eval(), build_block("residual", 8, 4).eval()
    before = {name: value.clone() for name, value in residual.state_dict().items()}
    assert initial_correlation(build_block("rezero", 8, 4), 8) == pytest.approx(1, abs=1e-6)
    assert abs(initial_correlation(plain, 8)) < 0.2 < initial_correlation(residual, 8) < 0.9
    torch.testing.assert_close(residual.state_dict(), before)
    assert not residual.training
