"""Hard gates: trained, pruned afterwards, and the work that this saves."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tacoskip.blocks import build_block, prune, sparsity
from tacoskip.blocks.cost import macs, macs_per_frame
from tacoskip.blocks.skips.deactivable import Deactivable
from tacoskip.blocks.skips.dynamic import Dynamic
from tacoskip.blocks.unit import PrunedUnit
from tacoskip.config import load_config, to_dict
from tacoskip.kernels.accelerate import accelerate
from tacoskip.loading import load
from tacoskip.masks import lengths_to_mask
from tacoskip.models.settings import CBHGSettings, TacotronSettings
from tacoskip.models.tacotron import Tacotron
from tacoskip.run_folder import Checkpoint, build_tacotron, save_checkpoint
from tacoskip.synthesis.speech import Speech
from tacoskip.synthesis.voice import Voice
from tacoskip.text import Tokenizer

MASK = lengths_to_mask(torch.tensor([9, 5, 2]))


def gates(model: nn.Module) -> list[Deactivable]:
    return [module for module in model.modules() if isinstance(module, Deactivable)]


def set_gates(model: nn.Module, is_open: list[bool]) -> None:
    for gate, wanted in zip(gates(model), is_open, strict=True):
        nn.init.constant_(gate.log_alpha, 4.0 if wanted else -4.0)


@pytest.mark.parametrize("price", [0.0, 0.05])
def test_price_closes_units_without_use_only(price: float) -> None:
    """Units 0 and 2 are frozen at zero; 1 and 3 can learn the task. Without a price none closes."""
    torch.manual_seed(0)
    block = build_block("deactivable", 4, 4)
    for i in (0, 2):
        for parameter in block.units[i].transform.parameters():  # type: ignore[index,union-attr]
            parameter.requires_grad_(False).zero_()
    teacher = build_block("residual", 4, 2)
    x = torch.randn(64, 6, 4)
    mask = torch.ones(64, 6, dtype=torch.bool)
    with torch.no_grad():
        for norm in (unit.transform.norm2 for unit in teacher.units):  # type: ignore[union-attr]
            norm.weight.fill_(2.0)
        target = teacher(x, mask)
    learned = [p for p in block.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=0.05)
    for _ in range(150):
        error = (block(x, mask) - target).square().mean()
        use = sparsity(block)
        assert use is not None
        optimizer.zero_grad()
        (error + price * use).backward()
        optimizer.step()
    assert [gate.closed for gate in gates(block)] == [price > 0, False, price > 0, False]

    def error_of(kept: list[bool]) -> float:
        tried = copy.deepcopy(block)
        for unit, keep in zip(tried.units, kept, strict=True):  # type: ignore[arg-type]
            if not keep:
                nn.init.constant_(unit.skip.log_alpha, -4.0)
        return float((tried.eval()(x, mask) - target).square().mean())

    with torch.no_grad():
        everything = error_of([True] * 4)
        assert everything < float((torch.relu(x) - target).square().mean()) / 3
        for kept in ([True, False, True, True], [True, True, True, False]):
            assert error_of(kept) > 2 * everything


@pytest.mark.parametrize("seed", range(3))
def test_dynamic_units_learn_which_examples_need_them(seed: int) -> None:
    """Half of the examples need the unit; the price closes it for the others."""
    torch.manual_seed(seed)
    block = build_block("dynamic", 8, 1)
    needs = torch.arange(64) % 2 == 0
    mask = torch.ones(64, 6, dtype=torch.bool)
    x = torch.randn(64, 6, 8)
    x[:, :, 0] = torch.where(needs, 1.0, -1.0)[:, None]
    target = torch.relu(x)
    target[needs] = target[needs].roll(1, 1)
    optimizer = torch.optim.Adam(block.parameters(), lr=0.05)
    for _ in range(150):
        error = (block(x, mask) - target).square().mean()
        use = sparsity(block)
        assert use is not None
        optimizer.zero_grad()
        (error + 0.1 * use).backward()
        optimizer.step()
    chance = block.eval().units[0].skip.chance(x, mask)  # type: ignore[index]
    assert float(chance[needs].min().detach()) > 0.7  # and not where a gate turns
    assert float(chance[~needs].max().detach()) < 0.3


def test_price_is_returned_once_and_released() -> None:
    for name in ("dynamic", "deactivable"):
        block = build_block(name, 8, 2)
        block(torch.randn(3, 9, 8), MASK)
        assert sparsity(block) is not None
        assert sparsity(block) is None
        copy.deepcopy(block)


@pytest.mark.parametrize("block", ["residual", "preact", "srgan", "highway", "convnext"])
@pytest.mark.parametrize(
    "is_open",
    [[False], [True], [False, True, True, False, True], [False] * 4, [True, False] * 4],
    ids=lambda is_open: "".join("01"[one] for one in is_open),
)
def test_prune_changes_no_bit_of_the_output(block: str, is_open: list[bool]) -> None:
    torch.manual_seed(0)
    stack = build_block(block, 8, len(is_open), skip="deactivable").eval()
    set_gates(stack, is_open)
    x = torch.randn(3, 9, 8)
    x[~MASK] = torch.nan  # padded frames may hold anything
    before = stack(x, MASK)
    assert prune(stack) == is_open.count(False)
    assert torch.equal(stack(x, MASK), before)
    assert prune(stack) == 0


def test_tacotron_output_is_equal_after_pruning() -> None:
    torch.manual_seed(0)
    cbhg = CBHGSettings(
        bank_size=3,
        bank_channels=6,
        projection_channels=6,
        channels=6,
        gru_channels=5,
        block="deactivable",
        depth=3,
    )
    settings = TacotronSettings(
        embedding_channels=8,
        prenet_channels=[8, 6],
        prenet_dropout=0.0,
        attention_channels=7,
        attention_rnn_channels=9,
        decoder_channels=8,
    )
    model = Tacotron(10, 5, 11, 1, settings, cbhg, cbhg).eval()
    set_gates(model, [False, True, False, False, False, True])
    symbols, lengths = torch.tensor([[3, 4, 5, 6, 7], [5, 9, 2, 0, 0]]), torch.tensor([5, 3])
    frames, speakers = torch.tensor([12, 7]), torch.tensor([0, 0])
    inputs = symbols, lengths, torch.randn(2, 12, 5), frames, speakers

    def everything() -> list[Tensor]:
        with torch.no_grad():
            shown, spoken = model(*inputs), model.infer(symbols, lengths, speakers, frames, 6)
        values = [*vars(shown).values(), *vars(spoken).values()]
        return [value for value in values if value is not None]

    before, work = everything(), macs(model, *inputs)
    size = sum(p.numel() for p in model.parameters())
    assert prune(model) == 4
    after = everything()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert macs(model, *inputs) == work  # a closed unit did not run before either
    unit = sum(p.numel() for p in model.encoder.cbhg.stack.units[1].parameters())  # type: ignore[index,union-attr]
    assert sum(p.numel() for p in model.parameters()) == size - 4 * unit


def test_loaded_voice_is_pruned_and_sounds_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = load_config("smoke", ["block=deactivable"])
    symbols = len(Tokenizer(config.text))
    model = build_tacotron(config, symbols, 1).eval()
    shut = [i % 2 == 0 for i in range(len(gates(model)))]
    set_gates(model, [not one for one in shut])
    path = tmp_path / "best.pt"
    found = Checkpoint(to_dict(config), ["a"], symbols, 4.0, 1, model.state_dict(), {})
    save_checkpoint(found, path)
    loaded, whole = load(path, "cpu"), Voice(accelerate(model), config, ["a"], 4.0)
    one, other = (voice.synthesize("No unit.", seed=3) for voice in (loaded, whole))
    assert isinstance(one, Speech) and isinstance(other, Speech)
    assert one.wave.tobytes() == other.wave.tobytes()
    assert sum(isinstance(m, PrunedUnit) for m in loaded.model.modules()) == sum(shut) > 0
    assert len(gates(loaded.model)) == len(shut) - sum(shut) > 0


@pytest.mark.parametrize("closed", [0, 1, 2, 4])
def test_macs_exclude_closed_units(closed: int) -> None:
    block = build_block("deactivable", 8, 4)
    set_gates(block, [i >= closed for i in range(4)])
    unit = 2 * 3 * 8 * 8
    assert macs_per_frame(block, 8) == (4 - closed) * unit
    assert prune(block) == closed
    assert macs_per_frame(block, 8) == (4 - closed) * unit
    assert sum(isinstance(unit, PrunedUnit) for unit in block.units) == closed  # type: ignore[union-attr]


@pytest.mark.parametrize("chosen", [0, 1, 3])
def test_macs_exclude_examples_that_skip_the_unit(chosen: int) -> None:
    block = build_block("dynamic", 8, 2)
    for gate in (module for module in block.modules() if isinstance(module, Dynamic)):
        gate.chance = lambda x, mask: (torch.arange(len(x)) < chosen).float()  # type: ignore[method-assign]
    work = macs(block, torch.randn(3, 10, 8), torch.ones(3, 10, dtype=torch.bool))
    assert work == chosen * 10 * 2 * (2 * 3 * 8 * 8)
