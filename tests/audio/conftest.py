"""Sounds that need no file, and two real clips."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from tacoskip.kernels import cpu as native
from tacoskip.kernels.cpu import spectra

Voice = Callable[..., NDArray[np.float32]]


def make_voice(
    sample_rate: int, seconds: float = 1.0, pitch: float = 110.0, seed: int = 0
) -> NDArray[np.float32]:
    """Gliding pulses through three resonances, in syllables, over faint noise: near to a voice."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    phase = np.cumsum(pitch * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * time)) / sample_rate)
    source = np.diff(np.floor(phase), prepend=0.0) + 0.01 * rng.standard_normal(len(time))
    for frequency, width in ((600, 80), (1300, 110), (2600, 160)):
        radius, angle = np.exp(-np.pi * width / sample_rate), 2 * np.pi * frequency / sample_rate
        source = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], source)
    syllables = np.clip(1.3 * np.sin(2 * np.pi * 2.5 * time), 0, 1)
    wave = source * syllables / np.abs(source).max() + 1e-4 * rng.standard_normal(len(time))
    return (0.5 * wave).astype(np.float32)


@pytest.fixture
def voice() -> Voice:
    return make_voice


@pytest.fixture(params=["compiled", "torch"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the loops in C, and as without them."""
    if request.param == "torch":
        monkeypatch.setattr(spectra, "is_supported", lambda x: False)
    elif native.library() is None:
        pytest.skip(native.missing())


@pytest.fixture(params=["LJSpeech-100/wavs/LJ001-0004.wav", "fsdd/recordings/7_george_3.wav"])
def recording(request: pytest.FixtureRequest, recordings: Path) -> Path:
    path = recordings / str(request.param)
    if not path.exists():
        pytest.skip(f"needs the recording {request.param}")
    return path
