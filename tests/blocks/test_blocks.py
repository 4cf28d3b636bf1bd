"""What every family promises; a new one is tested by being listed."""

import pytest
import torch

from tacoskip.blocks import BLOCKS, build_block
from tacoskip.masks import lengths_to_mask

LENGTHS = torch.tensor([9, 5, 2])


@pytest.mark.parametrize("name", BLOCKS)
def test_contract(name: str) -> None:
    torch.manual_seed(0)
    block = build_block(name, channels=6, depth=3)
    x, mask = torch.randn(3, 9, 6), lengths_to_mask(LENGTHS)
    output = block(x, mask)
    assert output.shape == x.shape
    assert output[~mask].abs().sum() == 0
    output.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters())
    block.eval()
    alone = block(x[1:2, :5], mask[1:2, :5])
    torch.testing.assert_close(block(x, mask)[1, :5], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", BLOCKS)
def test_receptive_field(name: str) -> None:
    block = build_block(name, channels=4, depth=1).eval()
    x = torch.randn(1, 31, 4, requires_grad=True)
    block(x, torch.ones(1, 31, dtype=torch.bool))[0, 15].sum().backward()
    seen = (x.grad[0].abs().sum(1) > 0).nonzero()[:, 0]
    assert int(seen.max() - seen.min()) + 1 <= BLOCKS[name].receptive_field


def test_depth_zero_passes_through() -> None:
    x = torch.randn(2, 3, 4)
    assert torch.equal(build_block("highway", 4, 0)(x, torch.ones(2, 3, dtype=torch.bool)), x)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown block 'higway'; did you mean 'highway'"):
        build_block("higway", 4, 1)
    with pytest.raises(ValueError, match="has no option 'kernel'"):
        build_block("residual", 4, 1, kernel=5)
