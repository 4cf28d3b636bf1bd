"""`start=identity` brings new stacks nearer to the identity, and none to a standstill."""

import pytest
import torch

from tacoskip.blocks import BLOCKS, build_block
from tacoskip.blocks.cost import initial_correlation
from tacoskip.blocks.start import PUBLISHED

CHANNELS, DEPTH = 16, 3


@pytest.mark.parametrize("name", BLOCKS)
def test_stack_starts_nearer_the_identity_and_learns(name: str) -> None:
    torch.manual_seed(0)
    paper = build_block(name, CHANNELS, DEPTH)
    torch.manual_seed(0)
    near = build_block(name, CHANNELS, DEPTH, start="identity")
    before, after = (initial_correlation(stack, CHANNELS) for stack in (paper, near))
    assert paper.start == PUBLISHED
    if near.start == PUBLISHED:
        assert after == before
        return
    if any(unit.changes_width for unit in near.units):  # a projection stays random
        assert after > before - 0.1
    else:
        assert after >= max(before - 1e-6, 0.7)  # a ReLU behind the sum leaves 0.85 of noise
    target = torch.randn(2, 30, CHANNELS)
    for _ in range(2):  # the layer at zero moves first, those before it then
        near.zero_grad()
        y = near.train()(torch.randn(2, 30, CHANNELS), torch.ones(2, 30, dtype=torch.bool))
        (y - target).square().mean().backward()
        with torch.no_grad():
            for value in near.parameters():
                value -= 0.1 * (value.grad if value.grad is not None else 0)
    learning = [value.grad is not None and bool(value.grad.any()) for value in near.parameters()]
    assert sum(learning) > 0.6 * len(learning)


def test_unknown_start_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'identity'"):
        build_block("residual", 8, 1, start="identiy")
