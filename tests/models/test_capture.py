"""What a graph of one shape keeps and gives back. Without a GPU, a recorder that calls again."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tacoskip.masks import lengths_to_mask
from tacoskip.models import reading
from tacoskip.models.attention import ATTENTIONS
from tacoskip.models.capture import Captured, Plain, Tensors


class Again:
    """Does what a CUDA graph does: the same call on the same memory."""

    def __init__(self, call: Callable[[], Tensors], found: Tensors):
        self.call, self.found = call, found

    def replay(self) -> None:
        for kept, new in zip(self.found, self.call(), strict=True):
            if kept is not None and new is not None:
                kept.copy_(new)


def record(call: Callable[[], Tensors]) -> tuple[Again, Tensors]:
    found = [None if x is None else torch.full_like(x, torch.nan) for x in call()]
    return Again(call, found), found


def double(x: Tensor, y: Tensor | None, times: int) -> tuple[Tensor | None, ...]:
    return x * times, y


def test_a_shape_is_captured_when_it_comes_again_and_keeps_nothing_of_what_it_gave() -> None:
    loop = Captured(record)
    found = [loop(double, (torch.full((3,), float(i)), None), 2) for i in range(4)]
    assert [float(x[0].sum()) for x in found] == [0, 6, 12, 18]
    assert all(x[1] is None for x in found)
    assert len(loop.kept) == 1
    loop(double, (torch.ones(3), None), 3)
    loop(double, (torch.ones(4), None), 2)
    assert len(loop.kept) == 1, "another flag and another shape, once each"


def test_no_more_graphs_than_asked() -> None:
    loop = Captured(record, most=2)
    for size in (1, 2, 3):
        for _ in range(2):
            (x, _) = loop(double, (torch.ones(size), None), 2)
            assert float(x.sum()) == 2 * size
    assert len(loop.kept) == 2


@pytest.mark.parametrize("name", ["bahdanau", "location", "forward"])
def test_the_captured_loop_is_the_plain_one(name: str) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([9, 6, 1])
    mask = lengths_to_mask(lengths)
    cell = nn.GRUCell(5 + 6, 7).double()
    attention = ATTENTIONS[name](7, 6, 4).double().train()
    wanted = [*cell.parameters(), *attention.parameters()]
    captured = Captured(record)
    for _ in range(3):
        shown = torch.randn(3, 19, 5, dtype=torch.float64, requires_grad=True)
        memory = torch.randn(3, 9, 6, dtype=torch.float64) * mask[:, :, None]
        pull = torch.randn(3, 19, 7, dtype=torch.float64)
        results = []
        for loop in (Plain(), captured):
            inputs = [shown, memory.clone().requires_grad_()]
            found = reading.read(*inputs, mask, cell, attention, loop)
            score = (found[0] * pull).sum() + found[1].square().sum() + found[2].square().sum()
            results.append([*found, *torch.autograd.grad(score, [*inputs, *wanted])])
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other)
    assert len(captured.kept) == 2, "forward and backward"
