"""The written-out GRU against torch's own: outputs and every gradient."""

import pytest
import torch
from torch import Tensor, nn

from tacoskip.models.recurrent import gru


@pytest.mark.parametrize(("directions", "steps"), [(1, 1), (1, 40), (2, 37)])
def test_gru_is_torchs(directions: int, steps: int) -> None:
    torch.manual_seed(0)
    layers = [nn.GRU(5, 4).double() for _ in range(directions)]
    x = torch.randn(directions, steps, 3, 5, dtype=torch.float64, requires_grad=True)
    pull = torch.randn(directions, steps, 3, 4, dtype=torch.float64)
    wanted = [x, *(p for layer in layers for p in layer.parameters())]

    theirs = torch.stack([layer(part)[0] for layer, part in zip(layers, x, strict=True)])
    ours = gru(x, layers)
    torch.testing.assert_close(ours, theirs)
    expected = torch.autograd.grad(theirs, wanted, pull)
    found = torch.autograd.grad(ours, wanted, pull)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_under_autocast_products_are_in_half_precision_and_states_are_not() -> None:
    torch.manual_seed(0)
    layers = [nn.GRU(8, 8)]
    x = torch.randn(1, 12, 4, 8, requires_grad=True)

    def run() -> tuple[Tensor, Tensor]:
        hidden = gru(x, layers)
        return hidden, torch.autograd.grad(hidden.square().sum(), x)[0]

    exact, exact_grad = run()
    with torch.autocast("cpu", torch.bfloat16):
        low, low_grad = run()
    assert low.dtype == torch.float32
    assert not torch.equal(low, exact)
    torch.testing.assert_close(low, exact, atol=0.02, rtol=0.02)
    torch.testing.assert_close(low_grad, exact_grad, atol=0.05, rtol=0.05)
