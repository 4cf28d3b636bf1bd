"""Blocks from outside the package: by dotted name, by entry point, and from files."""

import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from tacoskip.blocks import (
    BLOCKS,
    Family,
    Skip,
    Topology,
    all_families,
    build_block,
    check_contract,
    external,
    prune,
    sparsity,
)
from tacoskip.config import ConfigError, from_dict, load_config, to_dict
from tacoskip.data.prepare import prepare
from tacoskip.masks import lengths_to_mask
from tacoskip.models.cbhg import CBHG
from tacoskip.models.settings import CBHGSettings
from tacoskip.probes.activity import ActivityProbe
from tacoskip.run_folder import RunError, build_trained, checkpoints, load_checkpoint
from tacoskip.training import train

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
EXAMPLE = "my_block:MyFamily"
MASK = lengths_to_mask(torch.tensor([9, 5, 2]))


class Switch(Skip):
    """x + F(x) where the gate is open: the hard gate of this test."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels)
        self.logit = nn.Parameter(torch.tensor(1.0))

    @property
    def closed(self) -> bool:
        return float(self.logit) <= 0

    def forward(self, x: Tensor, transform: nn.Module, mask: Tensor) -> Tensor:
        if self.training:
            self.price = torch.sigmoid(self.logit)
        return x if self.closed else x + transform(x, mask)

    def openness(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.tensor(0.0 if self.closed else 1.0)


class Frozen(nn.Module):
    """Every frame in half: a whole stack that is no Topology."""

    def __init__(self, channels: int, depth: int, share: float = 0.5):
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return (self.share * x).masked_fill(~mask[:, :, None], 0.0)


class Leaky(Frozen):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x + x.mean(1, keepdim=True), mask)


class Unmasked(Frozen):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x


class Shorter(Frozen):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x[:, ::2]


class Crashing(Frozen):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        raise KeyError("speed")


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module outside the package, and no trusted names."""
    module = ModuleType("outside")
    module.__dict__.update(
        Switched=Family("basic", Switch),
        Frozen=Frozen,
        Leaky=Leaky,
        Unmasked=Unmasked,
        Shorter=Shorter,
        Crashing=Crashing,
        Switch=Switch,
        number=3,
        text=lambda channels, depth: "text",
    )
    monkeypatch.setitem(sys.modules, "outside", module)
    monkeypatch.setenv(external.TRUSTED, "")
    return module


def test_new_hard_gate_is_charged_pruned_and_probed() -> None:
    settings = CBHGSettings(2, 8, 8, 3, 8, 8, block="outside:Switched")
    model = CBHG(8, settings)
    probe = ActivityProbe(model)
    model.stack.units[1].skip.logit.data.fill_(-1.0)
    with probe.watching():
        model(torch.randn(3, 9, 8), MASK)
    price = sparsity(model)
    assert price is not None
    expected = torch.sigmoid(torch.tensor([1.0, -1.0, 1.0])).mean()
    torch.testing.assert_close(price, expected)
    price.backward()
    assert all(unit.skip.logit.grad for unit in model.stack.units)
    assert probe.read()["cbhg"]["openness"] == [1.0, 0.0, 1.0]
    x = torch.randn(3, 9, 8)
    before = model.eval()(x, MASK)
    assert prune(model) == 1
    torch.testing.assert_close(model(x, MASK), before, atol=0, rtol=0)


def test_family_takes_another_skip_and_topology() -> None:
    assert build_block("outside:Switched", 8, 2, skip="gated").units[0].skip.closed is False
    assert type(build_block("outside:Switched", 8, 2, topology="dense")).__name__ == "Dense"


def test_whole_stack_takes_options_and_is_a_topology() -> None:
    stack = build_block("outside:Frozen", 4, 2, share=0.25)
    assert isinstance(stack, Topology)
    x = torch.ones(1, 3, 4)
    assert torch.equal(stack(x, torch.ones(1, 3, dtype=torch.bool)), 0.25 * x)


def test_check_draws_no_random_number() -> None:
    states = []
    for name in ("plain", "outside:Frozen"):
        torch.manual_seed(0)
        build_block(name, 4, 0)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no_such_module:Family", {}, "No module named 'no_such_module' .* PYTHONPATH"),
        ("outside:Nothing", {}, "cannot import block 'outside:Nothing': AttributeError"),
        ("outside:number", {}, "expected a Family or a callable, got int"),
        ("outside:Switch", {}, "expected a Family around it, got Switch"),
        ("outside:text", {}, "expected a torch module, got str"),
        ("outside:Frozen", {"shere": 1}, "unexpected keyword argument 'shere'"),
        ("outside:Frozen", {"skip": "add"}, "whole stack, without a skip"),
        ("outside:Leaky", {}, "padding leaks"),
        ("outside:Unmasked", {}, "expected zeros at padded frames"),
        ("outside:Shorter", {}, r"expected the shape of the input, \(2, 7, 4\), got \(2, 4, 4\)"),
        ("outside:Crashing", {}, "block 'outside:Crashing': KeyError: 'speed'"),
        (":", {}, "cannot import block ':'"),
    ],
)
def test_broken_block_is_refused_in_one_line(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build_block(name, 4, 1, **options)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError):
        load_config("smoke", [f"block={name}", "block_options.shere=1"])


class Point(metadata.EntryPoint):
    """An entry point of the package `their-blocks`."""

    @property
    def dist(self) -> object:
        return type("Package", (), {"name": "their-blocks"})


def test_entry_points_are_listed_and_broken_ones_named(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        name: Point(name, target, external.GROUP)
        for name, target in {"switched": "outside:Switched", "broken": "outside:Gone"}.items()
    }
    monkeypatch.setattr(metadata, "entry_points", lambda group: list(points.values()))
    warnings: list[str] = []
    families = all_families(warnings.append)
    assert families.keys() - BLOCKS.keys() == {"switched"}
    assert len(warnings) == 1
    assert "their-blocks" in warnings[0] and "\n" not in warnings[0]
    assert isinstance(build_block("switched", 4, 1).units[0].skip, Switch)
    assert load_config("smoke", ["block=switched"]).block == "switched"
    with pytest.raises(ValueError, match="did you mean 'switched'"):
        build_block("swiched", 4, 1)


def test_files_do_not_import_blocks_that_the_user_has_not_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = to_dict(load_config("smoke")) | {"block": "outside:Switched"}
    with pytest.raises(ConfigError, match="TACOSKIP_BLOCKS=outside:Switched"):
        from_dict(values)
    assert from_dict(values, overrides=["block=outside:Switched"]).block == "outside:Switched"
    monkeypatch.setenv(external.TRUSTED, "")
    assert from_dict(values, overrides=["block=plain"]).block == "plain"
    monkeypatch.setenv(external.TRUSTED, "other:Block,outside:Switched")
    assert from_dict(values).block == "outside:Switched"


@pytest.mark.usefixtures("undrawn")
def test_documented_example_keeps_the_contract_and_trains(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    torch.manual_seed(0)
    check_contract(build_block(EXAMPLE, 8, 3, skip_gate_bias=-1.0), 8)
    overrides = [
        *(f"data.root={tiny_corpus}", f"data.dir={tmp_path / 'data'}", f"run={tmp_path / 'run'}"),
        *("data.validation=3", "data.test=2", "train.device=cpu", "train.max_steps=3"),
        *("train.sentences=[]", f"block={EXAMPLE}", "match=params"),
    ]
    config = load_config("smoke", overrides)
    prepare(config)
    train(config)
    path = checkpoints(tmp_path / "run")[-1]
    assert "openness" in (tmp_path / "run" / "probes.json").read_text()
    monkeypatch.setenv(external.TRUSTED, "")
    with pytest.raises(RunError, match="code outside tacoskip"):
        build_trained(load_checkpoint(path), path)
    monkeypatch.setenv(external.TRUSTED, EXAMPLE)
    build_trained(load_checkpoint(path), path)
