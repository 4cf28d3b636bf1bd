"""The Griffin-Lim benchmark runs on a short sweep, and measures what docs/audio.md says it does."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tacoskip.audio import write_audio

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("griffin_lim")


@pytest.mark.parametrize("options", [[], ["--mel"]])
def test_every_method_is_measured(
    bench: ModuleType,
    tmp_path: Path,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(3200) / 8000
    wave = 0.3 * np.sin(2 * np.pi * (300 * time + 200 * time**2)) + 0.01 * rng.normal(size=3200)
    write_audio(tmp_path / "sweep.wav", wave, 8000)
    command = ["griffin_lim.py", str(tmp_path), "--clips", "1", "--json", *options]
    monkeypatch.setattr("sys.argv", command)
    assert bench.main() == 0
    results = json.loads(capsys.readouterr().out)["results"]
    rows = {row["method"]: row for row in results[str(tmp_path)]}
    assert {"tacoskip 30", "librosa 100", "torchaudio 100"} <= rows.keys()
    assert all(row["convergence"] < 1 and row["ms_per_second"] > 0 for row in rows.values())
    if not options:
        assert rows["tacoskip 30"]["convergence"] < rows["librosa 100"]["convergence"]


def test_a_folder_without_recordings_is_named(
    bench: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["griffin_lim.py", str(tmp_path)])
    assert bench.main() == 2
    assert str(tmp_path) in capsys.readouterr().err
