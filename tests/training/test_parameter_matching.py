"""Parameter matching: every family at the widths that give highway's cost."""

import re
from pathlib import Path

import pytest
import torch

from tacoskip.blocks import BLOCKS
from tacoskip.blocks.cost import macs, parameters
from tacoskip.config import Config, load_config
from tacoskip.models.tacotron import Tacotron
from tacoskip.run_folder import build_tacotron
from tacoskip.training.parameter_matching import baseline_of, match_parameters

# Narrow except for the stacks, whose share of the cost is then as in a real network.
NARROW = [
    *("tts.decoder_channels=32", "tts.attention_rnn_channels=32", "tts.embedding_channels=32"),
    *("tts.prenet_channels=[32,32]", "tts.attention_channels=16", "audio.n_mels=20"),
    *("cbhg.bank_size=2", "cbhg.bank_channels=32", "cbhg.channels=64", "cbhg.gru_channels=32"),
    *("postnet.bank_size=2", "postnet.bank_channels=32", "postnet.channels=48"),
    *("postnet.gru_channels=32", "audio.sample_rate=8000"),
    *("cbhg.depth=2", "postnet.depth=2", "tts.frames_per_step=8"),
]


def build(config: Config) -> Tacotron:
    return build_tacotron(config, 30, 1)


def settings(*overrides: str) -> Config:
    return load_config("ljspeech", [*NARROW, *overrides])


@pytest.mark.parametrize("name", BLOCKS)
def test_every_family_gets_the_parameters_of_highway(name: str) -> None:
    found, match = match_parameters(settings(f"block={name}", "match=params"), build)
    with torch.device("meta"):
        own, highway = parameters(build(found)), parameters(build(settings()))
    assert match.reference == highway
    assert match.reached == own
    assert own == pytest.approx(highway, rel=0.02)
    assert match.within
    assert found.match == "none"


@pytest.mark.parametrize("name", ["nonlocal", "unet"])
def test_families_get_the_macs_of_highway(name: str) -> None:
    found, match = match_parameters(settings(f"block={name}", "match=macs"), build)
    network, highway = build(found), build(settings())
    own = macs(network, *network.example())
    assert own == match.reached
    assert own == pytest.approx(macs(highway, *highway.example()), rel=0.02)


@pytest.mark.parametrize(
    "name", ["plain", "inverted", "nonlocal", "reversible", "dense", "wavenet"]
)
def test_stacks_match_and_all_else_stays(name: str) -> None:
    found, match = match_parameters(settings(f"block={name}", "match=stack"), build)
    assert match.within
    torch.manual_seed(0)
    own = build(found).state_dict()
    torch.manual_seed(0)
    highway = build(settings()).state_dict()
    stacks = re.compile(r"\.(stack|narrow|widen)\.")
    assert all(stacks.search(key) for key in {*own} ^ {*highway})
    rest = [key for key in highway if not stacks.search(key)]
    assert any(".gru.ahead." in key for key in rest)
    for key in rest:
        torch.testing.assert_close(own[key], highway[key], atol=0, rtol=0, msg=key)


def test_stacks_are_at_least_a_quarter_as_wide() -> None:
    config = settings("block=resnext", "cbhg.depth=40", "postnet.depth=40", "match=stack")
    found, match = match_parameters(config, build, settings())
    assert found.block_options["width"] == 0.25 and not match.within


def test_deep_stack_can_match_a_shallow_baseline() -> None:
    config = settings("block=residual", "cbhg.depth=8", "postnet.depth=8", "match=params")
    found, match = match_parameters(config, build, settings())
    assert match.within
    assert match.reference == parameters(build(settings()))
    assert found.cbhg.channels < match_parameters(config, build)[0].cbhg.channels


def test_dense_stack_in_a_narrow_network_gets_smaller_growth() -> None:
    found, match = match_parameters(settings("block=dense", "match=params"), build)
    assert int(found.block_options["growth"]) < 32
    assert found.cbhg.channels > 10
    assert match.settings["block_options.growth"] == found.block_options["growth"]


def test_match_that_misses_the_tolerance_reports_percent() -> None:
    config = settings("block=resnext", "cbhg.depth=12", "postnet.depth=12", "match=params")
    _, match = match_parameters(config, build, settings("cbhg.depth=0", "postnet.depth=0"))
    assert not match.within
    assert match.percent > 2


def test_baseline_differs_only_in_the_block() -> None:
    config = settings("block=dense", "skip=concat", "cbhg.depth=7", "without=[gru]")
    baseline = baseline_of(config)
    assert (baseline.block, baseline.skip, baseline.cbhg.depth) == ("highway", "", 7)
    assert baseline.without == ["gru"]
    assert match_parameters(settings("match=params"), build)[1].percent == 0


def test_external_family_gets_the_parameters_of_highway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "docs" / "examples"))
    monkeypatch.setenv("TACOSKIP_BLOCKS", "")
    config = settings("block=my_block:MyFamily", "match=params")
    assert match_parameters(config, build)[1].within
