"""The Griffin-Lim benchmark on a short sweep."""

import importlib
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


@pytest.mark.parametrize("from_mel", [False, True])
def test_every_method_is_measured(bench: ModuleType, tmp_path: Path, from_mel: bool) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(3200) / 8000
    wave = 0.3 * np.sin(2 * np.pi * (300 * time + 200 * time**2)) + 0.01 * rng.normal(size=3200)
    write_audio(tmp_path / "sweep.wav", wave, 8000)
    measured = bench.measure([tmp_path / "sweep.wav"], from_mel)
    rows = {row["method, iterations"]: row for row in measured}
    assert {"tacoskip 30", "librosa 100", "torchaudio 100"} <= rows.keys()
    convergence = {name: row["spectral convergence"] for name, row in rows.items()}
    assert max(convergence.values()) < 1
    assert all(row["ms per s"] > 0 for row in measured)
    if not from_mel:
        assert convergence["tacoskip 30"] < convergence["librosa 100"]


def test_folder_without_recordings_is_named(
    bench: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["griffin_lim.py", str(tmp_path)])
    assert bench.main() == 2
    assert str(tmp_path) in capsys.readouterr().err
