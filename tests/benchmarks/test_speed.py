"""The scripts of speed run on tiny sizes, and their tables say what they promise."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> object:
    """Import a script of benchmarks/ by name; no peer is there, which leaves the test fast."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    peers = importlib.import_module("peers")
    monkeypatch.setitem(peers.INSTALL, "r9y9", "pip install it")

    def absent(peer: str, module: str) -> ModuleType | None:
        if peer == "pocketsphinx":
            return None
        monkeypatch.setitem(importlib.import_module("timing").ABSENT, peer, peers.INSTALL[peer])
        return None

    monkeypatch.setattr(peers, "load", absent)
    return importlib.import_module


def run(
    module: ModuleType, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[dict[str, object], str]:
    timing = importlib.import_module("timing")
    chosen = timing.parser(module.__doc__).parse_args(["--quick", "--json"])
    for name, value in (("wavs", None), ("precision", "fp32"), ("run", None)):
        setattr(chosen, name, value)
    assert timing.main(chosen, module.races(chosen)) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


@pytest.mark.parametrize("name", ["training", "cbhg", "decoder"])
def test_a_script_measures_and_names_absent_peers(
    name: str, script: object, capsys: pytest.CaptureFixture[str]
) -> None:
    result, errors = run(script(f"speed_{name}"), capsys)
    assert result["peaks"]["fp32"] > 0
    assert "not measured: coqui-tts (pip install" in errors
    for race in result["races"]:
        rows = {row["name"]: row for row in race["rows"]}
        assert {"tacoskip", "plain"} <= rows.keys() or "r9y9" in race["claim"]
        assert all(row["fastest"] <= row["seconds"] <= row["slowest"] for row in rows.values())
        assert rows["tacoskip"]["times_best_peer"] is None  # none is here


def test_losses_equal_the_plain_implementation(script: object) -> None:
    speed_training, sizes = script("speed_training"), script("sizes")
    torch.manual_seed(0)
    batch = sizes.random_batch(2, 9, 20)
    assert speed_training.loss_difference(5, "fp32", batch) < 1e-5
    assert speed_training.loss_difference(2, "bf16", batch) < 2e-2


def test_the_table_holds_each_row_to_the_best_peer(script: object) -> None:
    timing, speed = script("timing"), script("speed")
    ours = timing.Contestant("tacoskip", list, seconds=[2.0, 1.0, 3.0])
    peers = [
        timing.Contestant("slow", list, peer=True, seconds=[9.0]),
        timing.Contestant("quick", list, peer=True, seconds=[3.0, 5.0, 4.0]),
    ]
    race = timing.Race("a claim", "frames", 100.0, [ours, *peers], operations=50.0)
    rows = race.rows({"fp32": 100.0})
    assert [row["times_best_peer"] for row in rows] == [2.0, 4 / 9, 1.0]
    assert rows[0]["share_of_peak"] == 0.25 and rows[0]["rate"] == 50.0
    (line,) = speed.lines({"claim": "a claim", "unit": "frames", "rows": rows})
    assert "| quick, 4000 ms | 2.00 | 25 % |" in line


def test_an_absent_peer_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    peers, timing = importlib.import_module("peers"), importlib.import_module("timing")
    monkeypatch.setitem(sys.modules, "tacotron_pytorch", None)
    assert peers.load("r9y9", "tacotron_pytorch") is None
    assert "git+https" in timing.ABSENT.pop("r9y9")
