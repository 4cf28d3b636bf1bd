"""Two networks of one seed differ at first only where they are told to."""

import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from tacoskip.models.cbhg import CBHG
from tacoskip.models.initial import outline, start_gru
from tacoskip.models.settings import CBHGSettings, TacotronSettings
from tacoskip.models.tacotron import Tacotron

SMALL = {"bank_size": 3, "bank_channels": 8, "projection_channels": 8, "gru_channels": 8}


def network(**changed: object) -> Tacotron:
    torch.manual_seed(1)
    cbhg = CBHGSettings(**{**SMALL, "channels": 12, "depth": 2, **changed})  # type: ignore[arg-type]
    return Tacotron(9, 6, 10, 2, TacotronSettings(prenet_channels=[16, 8]), cbhg, cbhg)


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"block": "dense"}, "stack"),
        ({"depth": 7}, "stack"),
        ({"channels": 20}, "(stack|gru|widen)"),
        ({"width": 0.5}, "(stack|widen|narrow)"),
        ({"bank": False}, "bank"),
        ({"gru": False}, "gru"),
        ({"residual": False}, "nothing"),
    ],
)
def test_what_did_not_change_starts_equal(changed: dict[str, object], part: str) -> None:
    plain, other = network(), network(**changed)
    own = plain.state_dict()
    shared = [
        name
        for name, value in other.state_dict().items()
        if not re.search(rf"\.{part}\.", name) and name in own and own[name].shape == value.shape
    ]
    assert any(name.startswith("decoder.") for name in shared)
    assert any(name.startswith("postnet.project2") for name in shared)
    for name in shared:
        torch.testing.assert_close(other.state_dict()[name], own[name], atol=0, rtol=0, msg=name)
    assert float(torch.rand(())) == float(after(network))


def after(build: object) -> torch.Tensor:
    assert callable(build)
    build()
    return torch.rand(())


def test_parts_do_not_start_alike() -> None:
    torch.manual_seed(1)
    cbhg = CBHG(8, CBHGSettings(**{**SMALL, "channels": 8, "depth": 2}))  # type: ignore[arg-type]
    first = cbhg.stack.units[0].transform.linear.weight  # type: ignore[index,union-attr]
    assert not torch.equal(first, cbhg.gru.ahead.weight_ih_l0[:8])  # type: ignore[union-attr]


def test_an_outline_has_shapes_and_no_memory() -> None:
    with outline():
        made = nn.Sequential(nn.Embedding(7, 3), nn.GRU(3, 2))
    assert {value.device.type for value in made.state_dict().values()} == {"meta"}
    assert made[0].weight.shape == (7, 3)


def test_an_outline_does_without_torchs_compiler() -> None:
    code = (
        "import sys; from torch import nn; from tacoskip.models.initial import outline\n"
        "with outline(): nn.Embedding(7, 3)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_gru_starts_orthogonal_gate_by_gate() -> None:
    gru = nn.GRU(6, 5)
    start_gru(gru)
    for gate in gru.weight_hh_l0.chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(5))
    assert gru.weight_ih_l0.abs().max() <= (6 / (6 + 5)) ** 0.5
    assert not gru.bias_ih_l0.any() and not gru.bias_hh_l0.any()
    with outline():
        start_gru(nn.GRU(6, 5))
