import subprocess
import sys

import pytest

from tacoskip.audio import AudioSettings, GriffinLimSettings


def test_tacotron_numbers() -> None:
    s = AudioSettings(sample_rate=24000)
    assert (s.window_length, s.hop_length, s.fft_length, s.n_bins) == (1200, 300, 2048, 1025)
    assert s.frames_per_second == 80


def test_window_of_a_power_of_two_needs_no_longer_fft() -> None:
    assert AudioSettings(sample_rate=16000, window_ms=64, hop_ms=16).fft_length == 1024


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"sample_rate": 0}, "sample_rate"),
        ({"hop_ms": 0.0}, "hop_ms"),
        ({"hop_ms": 30.0}, "window_ms"),
        ({"n_mels": 0}, "n_mels"),
        ({"f_max": 12000.0}, "f_max"),
        ({"f_min": 9000.0, "f_max": 8000.0}, "f_min"),
        ({"preemphasis": 1.0}, "preemphasis"),
    ],
)
def test_impossible_audio_settings_are_named(values: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        AudioSettings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"iterations": -1},
        {"sharpening": 0.0},
        {"phase": "magic"},
    ],
)
def test_impossible_inversion_settings_are_named(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        GriffinLimSettings(**values)  # type: ignore[arg-type]


def test_settings_load_without_torch() -> None:
    code = "import sys, tacoskip.audio; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_load() -> None:
    import tacoskip.audio

    for name in tacoskip.audio.__all__:
        assert callable(getattr(tacoskip.audio, name))
    with pytest.raises(AttributeError, match="nonsense"):
        tacoskip.audio.nonsense  # noqa: B018
