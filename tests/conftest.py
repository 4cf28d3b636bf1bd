"""Shared by all tests: one thread (so that runs side by side do not fight), the real recordings."""

import os
from pathlib import Path
from unittest.mock import MagicMock

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch
if not Path("/dev/nvidia0").exists():  # Triton's kernels run in its interpreter without a GPU
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).resolve().parents[1]


def refusal(recipe: str, *overrides: str) -> str:
    """Return the one line that refuses a recipe with overrides."""
    from tacoskip.config import ConfigError, load_config

    with pytest.raises(ConfigError) as caught:
        load_config(recipe, list(overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings: TACOSKIP_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("TACOSKIP_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder} (set TACOSKIP_DATA to a folder that has them)")
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains without the pictures for TensorBoard: three quarters of a tiny run's time."""
    board = "tacoskip.training.board"
    monkeypatch.setattr(f"{board}.SummaryWriter.add_figure", lambda *_: None)
    monkeypatch.setattr(f"{board}.Board.picture", lambda *_: None)
    monkeypatch.setattr(f"{board}.probe_pictures", MagicMock())


@pytest.fixture
def flashlight() -> None:
    """Skips what needs a beam search where there is none."""
    pytest.importorskip("flashlight", reason="no flashlight-text: no wheel for Python 3.13")


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder corpus of 16 clips of buzz, as long as their texts want: nothing to learn from."""
    import numpy as np
    import soundfile

    words = "one two three four five six seven eight nine ten eleven twelve".split()
    folder = tmp_path_factory.mktemp("tiny corpus")
    (folder / "wavs").mkdir()
    random, rate, lines = np.random.default_rng(0), 8000, []
    for number in range(16):
        text = " ".join(random.choice(words, size=3))
        time = np.arange(int(rate * 0.08 * len(text))) / rate
        pitch = 2 * np.pi * (110 + 5 * number) * time
        buzz = sum(np.sin(k * pitch) / k for k in range(1, 12))
        wave = 0.1 * buzz * (1 + np.sin(2 * np.pi * 4 * time)) + 0.001 * random.normal(
            size=len(time)
        )
        soundfile.write(folder / "wavs" / f"clip{number:02d}.wav", wave, rate)
        lines.append(f"clip{number:02d}|{text}|{text}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
