"""The scripts of speed run on tiny sizes, and their tables compare each row with the best peer."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Import = Callable[[str], ModuleType]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Import:
    """Import a script of benchmarks/ by name; no peer is installed, which keeps the test fast."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    peers = importlib.import_module("peers")

    def absent(peer: str, module: str) -> None:
        monkeypatch.setitem(importlib.import_module("timing").ABSENT, peer, peers.INSTALL[peer])

    monkeypatch.setattr(peers, "load", absent)
    return importlib.import_module


@pytest.mark.parametrize("name", ["training", "synthesis"])
def test_script_measures_and_names_absent_peers(
    name: str, script: Import, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, timing, saved = script(f"speed_{name}"), script("timing"), tmp_path / "speed.json"
    arguments = ["--quick", "--save", str(saved)]
    if name == "training":
        arguments += ["--precision", "fp32", "--reductions", "5"]
    options = getattr(module, "OPTIONS", {})
    assert timing.main(module.__doc__, module.comparisons, arguments=arguments, **options) == 0
    assert "not measured: coqui-tts (pip install" in capsys.readouterr().err
    results = [json.loads(line) for line in saved.read_text().splitlines()]
    assert {"tacoskip", "plain"} <= {row["name"] for row in results[0]["rows"]}
    for result in results:
        assert "GFLOP/s fp32" in result["machine"]
        assert all(row["fastest"] <= row["seconds"] <= row["slowest"] for row in result["rows"])


def test_accelerated_losses_equal_plain_ones(script: Import) -> None:
    speed_training, sizes = script("speed_training"), script("sizes")
    torch.manual_seed(0)
    batch = sizes.random_batch(2, 9, 20)
    assert speed_training.loss_difference(5, "fp32", batch) < 1e-5
    assert speed_training.loss_difference(2, "bf16", batch) < 2e-2


def test_operations_of_the_parts_add_up(script: Import) -> None:
    step_parts, sizes, timing = script("step_parts"), script("sizes"), script("timing")
    model, batch = sizes.tacotron(sizes.paper(5)), sizes.random_batch(1, 6, 10)
    forward = timing.operations(lambda: sizes.training_loss(model, batch))
    assert sum(step_parts.count_operations(model, batch).values()) == 3 * forward


def test_rows_are_compared_with_the_fastest_peer(
    script: Import, capsys: pytest.CaptureFixture[str]
) -> None:
    timing = script("timing")
    contestants = [
        timing.Contestant("tacoskip", list, seconds=[2.0, 1.0, 3.0]),
        timing.Contestant("slow", list, peer=True, seconds=[9.0]),
        timing.Contestant("fast", list, peer=True, seconds=[3.0, 5.0, 4.0]),
    ]
    comparison = timing.Comparison("a title", "frames", 100.0, contestants, operations=50.0)
    rows = comparison.rows({"fp32": 100.0})
    assert [row["times_best_peer"] for row in rows] == [2.0, 4 / 9, 1.0]
    assert rows[0]["share_of_peak"] == 0.25 and rows[0]["rate"] == 50.0
    timing.print_table([timing._cells(rows[0], "frames")])
    assert "| tacoskip | 2000 | 1000 to 3000 | 50 | 2.00 | 25 % |" in capsys.readouterr().out


def test_absent_peer_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    peers, timing = importlib.import_module("peers"), importlib.import_module("timing")
    monkeypatch.setitem(sys.modules, "tacotron_pytorch", None)
    assert peers.load("r9y9", "tacotron_pytorch") is None
    assert "git+https" in timing.ABSENT.pop("r9y9")
