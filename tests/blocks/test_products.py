"""Products by oneDNN against torch's own."""

import pytest
import torch
from torch import nn

from tacoskip.blocks import products


@pytest.fixture(params=[False, True], ids=["torch", "onednn"])
def by_onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch does not let oneDNN be called")
    monkeypatch.setattr(products, "_mkl_holds_back", lambda: request.param)
    return bool(request.param)


@pytest.mark.parametrize("gap", [0, 3])
def test_product_and_outer(by_onednn: bool, gap: int) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(9, 4 + gap)[:, :4], torch.randn(7, 4 + gap)[:, :4]
    torch.testing.assert_close(products.product(a, b), a @ b.t())
    torch.testing.assert_close(products.product(a, b.clone().t().contiguous().t()), a @ b.t())
    grads = torch.randn(9, 6 + gap)[:, :6]
    torch.testing.assert_close(products.outer(grads, a), grads.t() @ a)


@pytest.mark.parametrize("bias", [False, True])
def test_linear_is_torchs(by_onednn: bool, bias: bool) -> None:
    torch.manual_seed(0)
    ours = products.Linear(5, 6, bias=bias)
    theirs = nn.Linear(5, 6, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 5, requires_grad=True)
    out, expected = ours(x), theirs(x)
    assert out.grad_fn is not None
    assert ("_Linear" in out.grad_fn.name()) == by_onednn
    torch.testing.assert_close(out, expected)
    found = torch.autograd.grad(out.square().sum(), [x, *ours.parameters()])
    for one, other in zip(
        found, torch.autograd.grad(expected.square().sum(), [x, *theirs.parameters()]), strict=True
    ):
        torch.testing.assert_close(one, other)
