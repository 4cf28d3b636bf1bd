"""The attention loop: its written-out gradient against autograd through the same steps."""

import ctypes

import pytest
import torch
from torch import Tensor, nn

from tacoskip.kernels import cpu as native
from tacoskip.kernels.cpu import reading as compiled
from tacoskip.masks import lengths_to_mask
from tacoskip.models import reading
from tacoskip.models.attention import ATTENTIONS

SHOWN, MEMORY, HIDDEN, CHANNELS, STEPS = 5, 6, 7, 4, 19
LENGTHS = torch.tensor([9, 6, 1])


def parts(name: str) -> tuple[list[Tensor], nn.GRUCell, nn.Module, Tensor]:
    """Inputs (shown, memory), cell, attention and mask, in double precision."""
    torch.manual_seed(0)
    cell = nn.GRUCell(SHOWN + MEMORY, HIDDEN).double()
    attention = ATTENTIONS[name](HIDDEN, MEMORY, CHANNELS).double().train()
    mask = lengths_to_mask(LENGTHS)
    shown = torch.randn(len(LENGTHS), STEPS, SHOWN, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(*mask.shape, MEMORY, dtype=torch.float64) * mask[:, :, None]
    return [shown, memory.requires_grad_()], cell, attention, mask


@pytest.mark.parametrize("name", ["bahdanau", "location", "forward"])
def test_gradients_are_those_of_autograd(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, cell, attention, mask = parts(name)
    wanted = [*inputs, *cell.parameters(), *attention.parameters()]
    found = reading.read(*inputs, mask, cell, attention)
    assert "Read" in type(found[0].grad_fn.next_functions[0][0]).__name__, "the loop written out"
    monkeypatch.setattr(reading, "AT_ONCE", ())
    expected = reading.read(*inputs, mask, cell, attention)
    pulls = [torch.randn_like(x) for x in expected]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(
        torch.autograd.grad(found, wanted, pulls),
        torch.autograd.grad(expected, wanted, pulls),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


# Channels of one panel and of several, rows that fill no block.
@pytest.mark.parametrize("channels", [4, 75])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["bahdanau", "location", "forward"])
def test_the_compiled_loop_gives_the_same(
    name: str, threads: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In single precision, held to autograd in double."""
    if native.loops() is None:
        pytest.skip(native.why())
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.manual_seed(0)
    lengths = torch.tensor([23, 6, 1, 17, 9])
    mask = lengths_to_mask(lengths)
    cell = nn.GRUCell(SHOWN + MEMORY, 19)
    attention = ATTENTIONS[name](19, MEMORY, channels).train()
    shown, memory = torch.randn(5, STEPS, SHOWN), torch.randn(*mask.shape, MEMORY)
    modules = nn.ModuleList([cell, attention])
    pulls = [torch.randn(5, STEPS, n) for n in (19, MEMORY, mask.shape[1])]

    def outcome() -> tuple[Tensor, ...]:
        modules.double() if reading.AT_ONCE == () else modules.float()
        kind = next(modules.parameters()).dtype
        inputs = [x.to(kind).requires_grad_() for x in (shown, memory)]
        found = reading.read(*inputs, mask, cell, attention)
        wanted = [*inputs, *modules.parameters()]
        return *found, *torch.autograd.grad(found, wanted, [pull.to(kind) for pull in pulls])

    def not_here(*_: object) -> None:
        raise AssertionError("the loop was not compiled")

    with monkeypatch.context() as patch:
        patch.setattr(reading, "_forward", not_here)
        found = outcome()
    monkeypatch.setattr(reading, "AT_ONCE", ())
    for one, other in zip(found, outcome(), strict=True):
        scale = other.detach().abs().max().item()
        torch.testing.assert_close(one.double(), other, atol=1e-5 * max(1.0, scale), rtol=1e-4)


def test_structures_are_as_the_loops_have_them() -> None:
    library = native.loops()
    if library is None:
        pytest.skip(native.why())
    assert ctypes.sizeof(compiled._Reading) == library.reading_size()
    assert ctypes.sizeof(compiled._ReadingBack) == library.reading_back_size()


@pytest.mark.parametrize("compiles", [True, False])
@pytest.mark.parametrize("name", ["bahdanau", "location", "forward"])
def test_step_by_step_is_as_at_once(
    name: str, compiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiles and native.loops() is None:
        pytest.skip(native.why())
    inputs, cell, attention, mask = parts(name)
    cell, attention = cell.float(), attention.float().eval()
    shown, memory = (x.detach().float() for x in inputs)
    if not compiles:
        monkeypatch.setattr(reading, "takes", lambda x: False)
    with torch.no_grad():
        expected = reading.read(shown, memory, mask, cell, attention)
        step = reading.reader(memory, mask, cell, attention)
        for number, one in enumerate(shown.unbind(1)):
            found = step(one.clone())
            for part, whole in zip(found, expected, strict=True):
                torch.testing.assert_close(part, whole[:, number], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_padding_changes_nothing(name: str) -> None:
    inputs, cell, attention, mask = parts(name)
    for module in attention.modules():
        if hasattr(module, "noise"):
            module.noise = 0.0
    short = reading.read(inputs[0][1:2], inputs[1][1:2, :6], mask[1:2, :6], cell, attention)
    whole = reading.read(*inputs, mask, cell, attention)
    torch.testing.assert_close(whole[1][1:2], short[1])
    torch.testing.assert_close(whole[2][1:2, :, :6], short[2])
    assert whole[2].masked_select(~mask[:, None]).abs().sum() == 0
