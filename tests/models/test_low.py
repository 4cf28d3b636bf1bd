"""Recurrent layers in bfloat16 by compiled code, against the same in float32."""

import ctypes
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from tacoskip.kernels.cpu import low
from tacoskip.kernels.cpu.gru import compiled
from tacoskip.masks import lengths_to_mask
from tacoskip.models import reading
from tacoskip.models.attention import ATTENTIONS
from tacoskip.models.cbhg import BiGRU

if not low.there(16):
    pytest.skip("no compiled code for bfloat16 here", allow_module_level=True)

LENGTHS = torch.tensor([23, 9, 1, 22, 17, 23, 4, 8, 11])
MASK = lengths_to_mask(LENGTHS)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)


def close(found: Sequence[Tensor], expected: Sequence[Tensor], within: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.float() - other).norm() <= within * other.norm(), (one, other)


def test_the_structures_are_those_of_the_code() -> None:
    library = compiled()
    assert ctypes.sizeof(low._Distance) == library.distance_size()
    assert ctypes.sizeof(low._Norm) == library.norm_size()
    assert ctypes.sizeof(low._Highway) == library.highway_size()
    assert ctypes.sizeof(low._Dropout) == library.dropout_size()
    assert ctypes.sizeof(low._GRU) == library.low_gru_size()
    assert ctypes.sizeof(low._Reading) == library.low_reading_size()


@pytest.mark.parametrize(("inputs", "channels"), [(5, 16), (20, 48)])
def test_gru_both_ways(threads: None, inputs: int, channels: int) -> None:
    torch.manual_seed(0)
    both, x = BiGRU(inputs, channels), torch.randn(*MASK.shape, inputs)
    pull = torch.randn(*MASK.shape, 2 * channels) * MASK[:, :, None]
    exact = x.clone().requires_grad_()
    expected = both(exact, MASK)
    expected_grads = torch.autograd.grad(expected, [exact, *both.parameters()], pull)
    # What padding holds reaches nothing but itself.
    shown = x.masked_fill(~MASK[:, :, None], 1e3).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = both(shown, MASK)
        with torch.no_grad():
            assert torch.equal(both(shown, MASK), found)
    assert found.dtype == torch.bfloat16 and "LowGRU" in str(found.grad_fn)
    grads = torch.autograd.grad(found, [shown, *both.parameters()], pull.bfloat16())
    close([found, *grads], [expected, *expected_grads], 0.015)
    assert not found[~MASK].any() and not grads[0][~MASK].any()


def test_gru_with_gates_wide_open_or_shut() -> None:
    both, x = BiGRU(4, 16), torch.randn(*MASK.shape, 4) * 1e4
    x[0, 5, 0] = torch.nan
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = both(x, MASK)
    assert found[0, 5:, :16].isnan().all() and found[0, :6, 16:].isnan().all()
    assert found[0, :5, :16].isfinite().all() and found[1:].abs().max() <= 1


@pytest.mark.parametrize("channels", [16, 80])
@pytest.mark.parametrize("name", ["bahdanau", "location", "forward"])
def test_reading(threads: None, name: str, channels: int) -> None:
    torch.manual_seed(0)
    cell, attention = nn.GRUCell(5 + 32, 48), ATTENTIONS[name](48, 32, channels).train()
    given = torch.randn(len(LENGTHS), 13, 5), torch.randn(*MASK.shape, 32)
    weights = [*cell.parameters(), *attention.parameters()]
    exact = [x.clone().requires_grad_() for x in given]
    expected = reading.read(*exact, MASK, cell, attention)
    pulls = [torch.randn_like(x) for x in expected]
    expected_grads = torch.autograd.grad(expected, [*exact, *weights], pulls)
    shown = [x.clone().requires_grad_() for x in given]
    with torch.autocast("cpu", torch.bfloat16):
        assert reading.reads_low(shown[1], cell, attention)
        found = reading.read_low(*shown, MASK, cell, attention)
    pulls = [pull.to(x.dtype) for pull, x in zip(pulls, found, strict=True)]
    grads = torch.autograd.grad(found, [*shown, *weights], pulls)
    close([*found, *grads], [*expected, *expected_grads], 0.015)
    assert found[2].dtype == torch.float32
    torch.testing.assert_close(found[2].sum(2), torch.ones(len(LENGTHS), 13))
    assert not found[2][(~MASK)[:, None].expand_as(found[2])].any()


def test_reading_is_in_bfloat16_in_training_and_under_autocast_alone() -> None:
    cell, attention = nn.GRUCell(21, 16), ATTENTIONS["forward"](16, 16, 16)
    memory = torch.zeros(1, 3, 16)
    assert not reading.reads_low(memory, cell, attention)
    with torch.autocast("cpu", torch.bfloat16):
        assert reading.reads_low(memory, cell, attention)
        assert not reading.reads_low(torch.zeros(1, 3, 17), nn.GRUCell(22, 16), attention)
        assert not reading.reads_low(memory, cell, attention.eval())
