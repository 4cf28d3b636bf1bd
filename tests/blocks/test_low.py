"""What runs in bfloat16 by compiled code, against the same layers in float32."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from tacoskip.blocks import build_block, products, unit
from tacoskip.blocks.layers import (
    MaskedBatchNorm1d,
    MaskedConv1d,
    clear_padding,
    rectified_dropout,
)
from tacoskip.blocks.products import Linear
from tacoskip.kernels.cpu import low
from tacoskip.masks import lengths_to_mask

MASK = lengths_to_mask(torch.tensor([37, 20, 1, 36]))

needs_low = pytest.mark.skipif(not low.there(16), reason="no compiled code for bfloat16 here")


def close(found: Sequence[Tensor], expected: Sequence[Tensor], within: float = 0.01) -> None:
    """Hold each to its counterpart within so much of that one's norm."""
    for one, other in zip(found, expected, strict=True):
        assert (one.float() - other).norm() <= within * other.norm(), (one, other)


def rounded(*shape: int) -> Tensor:
    """Noise that bfloat16 can hold."""
    return torch.randn(*shape).bfloat16().float()


def filled_norm(channels: int) -> MaskedBatchNorm1d:
    norm = MaskedBatchNorm1d(channels)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1, 2, channels))
        norm.bias.copy_(torch.linspace(-0.5, 0.5, channels))
    return norm


@needs_low
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("rectify", "pool"), [(False, False), (True, False), (True, True)])
def test_batch_norm_of_parts(
    rectify: bool, pool: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.manual_seed(0)
    x, pull = 2 * rounded(*MASK.shape, 96) + 3, rounded(*MASK.shape, 96)
    x = x.bfloat16().float()
    ours, theirs = filled_norm(96), filled_norm(96)
    whole = x.clone().requires_grad_()
    expected = theirs(whole, MASK, rectify, pool)
    expected_grads = torch.autograd.grad(expected, [whole, *theirs.parameters()], pull)
    # What padding holds is nobody's business.
    shown = x.masked_fill(~MASK[:, :, None], torch.nan).bfloat16()
    parts = [part.contiguous().requires_grad_() for part in shown.split(48, 2)]
    found = ours(parts, MASK, rectify, pool)
    assert found.dtype == torch.bfloat16
    grads = torch.autograd.grad(found, [*parts, *ours.parameters()], pull.bfloat16())
    close([found, torch.cat(grads[:2], 2), *grads[2:]], [expected, *expected_grads])
    close([ours.running_mean, ours.running_var], [theirs.running_mean, theirs.running_var], 1e-5)
    assert not found[~MASK].any() and not torch.cat(grads[:2], 2)[~MASK].any()


@needs_low
def test_batch_norm_tells_of_what_is_no_number() -> None:
    x = rounded(*MASK.shape, 16).bfloat16()
    x[0, 3, 5] = torch.nan
    found = MaskedBatchNorm1d(16)(x, MASK, True, True)
    assert found[MASK][:, 5].isnan().all()
    assert found[..., :5].isfinite().all() and found[..., 6:].isfinite().all()


@needs_low
def test_statistics_of_several_processes() -> None:
    x = rounded(*MASK.shape, 16).requires_grad_()
    ours, theirs = filled_norm(16), filled_norm(16)
    ours.total = theirs.total = lambda own: (2 * own, True)
    low_x = x.detach().bfloat16().requires_grad_()
    found, expected = ours(low_x, MASK), theirs(x, MASK)
    pull = rounded(*x.shape)
    (grad,) = torch.autograd.grad(found, low_x, pull.bfloat16())
    (expected_grad,) = torch.autograd.grad(expected, x, pull)
    close([found, grad], [expected, expected_grad])


@needs_low
def test_highway_units_are_as_near_to_float32_as_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ReLU near zero may turn by the rounding, in both."""
    torch.manual_seed(0)
    stack = build_block("highway", 32, 2)
    x, pull = rounded(*MASK.shape, 32), rounded(*MASK.shape, 32)

    def outcome(dtype: torch.dtype) -> list[Tensor]:
        shown = x.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = stack(shown, MASK)
        return [out, *torch.autograd.grad(out, [shown, *stack.parameters()], pull.to(dtype))]

    exact, ours = outcome(torch.float32), outcome(torch.bfloat16)
    assert "Highway" in type(ours[0].grad_fn).__name__
    assert not ours[0][~MASK].any()
    monkeypatch.setattr(unit, "takes", lambda *given: False)
    for one, other, expected in zip(ours, outcome(torch.bfloat16), exact, strict=True):
        error, theirs = (one - expected).norm(), (other - expected).norm()
        assert error <= 1.1 * theirs, (one, other, expected)


@pytest.mark.parametrize("make", [lambda: Linear(12, 7), lambda: Linear(12, 64, bias=False)])
@pytest.mark.parametrize("shape", [(5, 12), (3, 5, 12)])
def test_linear_under_autocast(make: type[nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, x = make(), rounded(*shape).requires_grad_()
    pull = rounded(*layer(x).shape)
    wanted = [x, *layer.parameters()]
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert found.dtype == torch.bfloat16
    grads = torch.autograd.grad(found, wanted, pull.bfloat16())
    close([found, *grads], [expected, *torch.autograd.grad(expected, wanted, pull)])


@pytest.mark.parametrize("kernel", [3, 4])
def test_convolution_under_autocast(kernel: int) -> None:
    """Also where the zeros at padded frames are there already."""
    torch.manual_seed(0)
    layer, x = MaskedConv1d(5, 6, kernel), rounded(*MASK.shape, 5) * MASK[:, :, None]
    pull = rounded(*MASK.shape, 6)
    outcomes = []
    for enabled, clear in ((False, False), (True, False), (True, True)):
        shown = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = layer(shown, MASK, clear)
        (grad, *rest) = torch.autograd.grad(out, [shown, *layer.parameters()], pull.to(out.dtype))
        outcomes.append([out, grad[MASK], *rest])
    close(outcomes[1], outcomes[0])
    close(outcomes[2], outcomes[1], 0.0)


def test_padding_is_cleared_in_place_and_so_is_its_gradient() -> None:
    layer, x = Linear(4, 4), torch.randn(*MASK.shape, 4)
    wanted = list(layer.parameters())
    expected = layer(x).masked_fill(~MASK[:, :, None], 0.0)
    before = layer(x)
    found = clear_padding(before, MASK)
    assert found.data_ptr() == before.data_ptr()
    assert torch.equal(found, expected)
    pull = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad(found, wanted, pull),
        torch.autograd.grad(expected, wanted, pull),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@needs_low
@pytest.mark.parametrize("p", [0.25, 0.5, 0.9])
def test_dropout_after_a_relu(p: float) -> None:
    torch.manual_seed(0)
    x, dropout = rounded(300, 160).bfloat16().requires_grad_(), nn.Dropout(p)
    out = rectified_dropout(x, dropout)
    positive = x > 0
    kept = out != 0
    assert not kept[~positive].any()
    # Five deviations of as many draws.
    count = int(positive.sum())
    within = 5 * (p * (1 - p) / count) ** 0.5
    assert kept[positive].float().mean().item() == pytest.approx(1 - p, abs=within)
    torch.testing.assert_close(out[kept].float(), x[kept].float() / (1 - p), atol=0, rtol=0.005)
    assert not torch.equal(rectified_dropout(x, dropout), out)
    torch.manual_seed(0)
    rounded(300, 160)
    assert torch.equal(rectified_dropout(x, dropout), out), "by torch's generator"
    pull = rounded(300, 160).bfloat16()
    (grad,) = torch.autograd.grad(out, x, pull)
    torch.testing.assert_close(grad, kept * pull / (1 - p), atol=0, rtol=0.01)
    assert torch.equal(rectified_dropout(x, dropout.eval()), torch.relu(x))


@pytest.mark.parametrize("frames", [1, 2, 40])
@pytest.mark.parametrize("kernel", [3, 5])
def test_large_convolution_under_autocast(
    kernel: int, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights' gradient is a product a tap, which sees no other item."""
    torch.manual_seed(0)
    monkeypatch.setattr(products, "LARGE_TAP", 8 * 6)
    layer, mask = MaskedConv1d(8, 6, kernel, bias=False), torch.ones(3, frames, dtype=torch.bool)
    x, pull = rounded(3, frames, 8).requires_grad_(), rounded(3, frames, 6)
    wanted = [x, *layer.parameters()]
    outcomes = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = layer(x, mask)
        outcomes.append([out, *torch.autograd.grad(out, wanted, pull.to(out.dtype))])
    close(outcomes[1], outcomes[0])
