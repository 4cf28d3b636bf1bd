"""The Griffin-Lim benchmark runs on a tone, and its JSON says what docs/audio.md claims."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tacoskip.audio import write_audio

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "griffin_lim.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("options", [[], ["--mel"]])
def test_every_method_is_measured(tmp_path: Path, options: list[str]) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(3200) / 8000
    wave = 0.3 * np.sin(2 * np.pi * (300 * time + 200 * time**2)) + 0.01 * rng.normal(size=3200)
    write_audio(tmp_path / "sweep.wav", wave, 8000)
    done = run(str(tmp_path), "--clips", "1", "--json", *options)
    assert done.returncode == 0, done.stderr
    rows = {row["method"]: row for row in json.loads(done.stdout)["results"][str(tmp_path)]}
    assert {"tacoskip 30", "librosa 100", "torchaudio 100"} <= rows.keys()
    assert all(row["convergence"] < 1 and row["ms_per_second"] > 0 for row in rows.values())
    if not options:
        assert rows["tacoskip 30"]["convergence"] < rows["librosa 100"]["convergence"]


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    done = run(str(tmp_path))
    assert done.returncode == 2 and str(tmp_path) in done.stderr
