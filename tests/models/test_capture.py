"""What a graph of one shape keeps and gives back. Without a GPU, a recorder that calls again."""

import copy
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tacoskip.blocks import BLOCKS
from tacoskip.blocks.layers import MaskedBatchNorm1d
from tacoskip.config import load_config
from tacoskip.masks import lengths_to_mask
from tacoskip.models import reading
from tacoskip.models.attention import ATTENTIONS
from tacoskip.models.capture import Captured, Plain, Tensors, fuse
from tacoskip.models.cbhg import CBHG
from tacoskip.models.settings import CBHGSettings
from tacoskip.run_folder import build_network


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


@pytest.fixture
def compiler() -> Iterator[Any]:
    """torch.compile without what earlier tests have compiled, and without its patience."""
    config = torch._dynamo.config
    before = config.suppress_errors
    torch._dynamo.reset()
    yield config
    torch._dynamo.reset()
    config.suppress_errors = before


def cbhg(block: str) -> CBHG:
    torch.manual_seed(0)
    small = {"bank_size": 2, "bank_channels": 4, "projection_channels": 4, "gru_channels": 4}
    return CBHG(8, CBHGSettings(**small, channels=8, depth=2, block=block)).double().train()


def learnt(network: nn.Module, frames: int) -> list[Tensor]:
    """Output, gradients and buffers of one step on three items, one of a single frame."""
    torch.manual_seed(frames)
    mask = lengths_to_mask(torch.tensor([frames, frames - 4, 1]))
    x = torch.randn(3, frames, 8, dtype=torch.float64, requires_grad=True)
    y = network(x, mask)
    score = (y * torch.randn_like(y)).sum()
    grads = torch.autograd.grad(score, [x, *network.parameters()], allow_unused=True)
    return [y, *(g for g in grads if g is not None), *(b.clone() for b in network.buffers())]


# Without convolutions, with them, with a gradient of its own; the others behind a mark.
SOME = "highway", "nonlocal", "residual", "reversible"
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in BLOCKS if name not in SOME]


@pytest.mark.parametrize("name", [*SOME, *OTHERS])
def test_a_fused_cbhg_learns_what_the_plain_one_does(name: str, compiler: Any) -> None:
    plain = cbhg(name)
    fused = copy.deepcopy(plain)
    assert fuse(fused, "aot_eager") == ""
    compiler.suppress_errors = False
    assert fused.bank is not None and fused.bank.norm.fused
    has_convolutions = any(isinstance(layer, nn.Conv1d) for layer in plain.stack.modules())
    assert (fused.fused is None) == has_convolutions
    for frames in (13, 9):
        for one, other in zip(learnt(plain, frames), learnt(fused, frames), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-11)


def test_only_training_is_fused(compiler: Any) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("called")

    network = cbhg("highway").eval()
    network.fused = network.norm1.fused = refuse
    x, mask = torch.randn(1, 5, 8, dtype=torch.float64), torch.ones(1, 5, dtype=torch.bool)
    network(x, mask)
    with pytest.raises(AssertionError, match="called"):
        network.train()(x, mask)


def test_a_norm_that_shares_its_batch_is_not_fused() -> None:
    norm = MaskedBatchNorm1d(3).train()
    norm.fused = lambda *_: pytest.fail("fused")
    norm.total = lambda x: (x, True)
    norm(torch.randn(2, 4, 3), torch.ones(2, 4, dtype=torch.bool))


def test_a_step_captured_and_fused_is_the_plain_one(compiler: Any) -> None:
    """What train.graph does on a GPU, in one: loss and gradients of a whole voice."""
    config = load_config("smoke", ["tts.prenet_dropout=0", "tts.frame_dropout=0"])
    torch.manual_seed(0)
    plain = build_network(config, 7, 1).double().train()
    whole = copy.deepcopy(plain)
    whole.decoder.loop = Captured(record)
    assert fuse(whole, "aot_eager") == ""
    compiler.suppress_errors = False
    symbols, frames = torch.tensor([9, 6]), torch.tensor([24, 18])
    for _ in range(3):
        text = torch.randint(1, 7, (2, 9))
        mel = torch.randn(2, 24, config.audio.n_mels, dtype=torch.float64)
        found = []
        for network in (plain, whole):
            out = network(text, symbols, mel, frames, torch.zeros(2, dtype=torch.long))
            score = out.linear.square().mean() + out.mel.square().mean() + out.stop_logits.mean()
            grads = torch.autograd.grad(score, list(network.parameters()), allow_unused=True)
            found.append([score, *(g for g in grads if g is not None)])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-11)
    assert len(whole.decoder.loop.kept) == 2, "forward and backward"


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile wants a C++ compiler here")
def test_what_the_compiler_makes_of_a_norm_is_the_norm(compiler: Any) -> None:
    torch.manual_seed(0)
    plain = MaskedBatchNorm1d(5).double().train()
    fused = copy.deepcopy(plain)
    assert fuse(fused) == ""
    compiler.suppress_errors = False
    graphs = []
    for frames in (13, 9, 11):
        mask = lengths_to_mask(torch.tensor([frames, 3]))
        x = torch.randn(2, frames, 5, dtype=torch.float64, requires_grad=True)
        pull = torch.randn(2, frames, 5, dtype=torch.float64)
        for one, other in zip(
            *(
                (y := norm(x, mask, pool=True), *torch.autograd.grad((y * pull).sum(), x))
                for norm in (plain, fused)
            ),
            strict=True,
        ):
            torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-11)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[-1] > 0, "compiled once for all lengths"


def test_without_a_compiler_nothing_is_fused_and_it_is_said(compiler: Any) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("no compiler here\nand a page of its own")

    network = cbhg("highway")
    assert "no compiler here" in fuse(network, fails)
    assert network.fused is None and network.norm1.fused is None
