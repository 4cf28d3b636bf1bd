"""Formats that only ffmpeg reads: a fake program shows how it is called."""

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tacoskip.audio import ffmpeg, read_audio

FAKE = f"""#!{sys.executable}
import json, sys, pathlib
pathlib.Path({{log!r}}).write_text(json.dumps(sys.argv[1:]))
source = pathlib.Path(sys.argv[sys.argv.index("-i") + 1].removeprefix("file:"))
if source.read_bytes() == b"bad":
    sys.exit("Invalid data found\\nwhen processing input")
pathlib.Path(sys.argv[-1]).write_bytes(source.read_bytes())
"""


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program `ffmpeg` that copies its input on PATH; the file it notes its arguments in."""
    log, program = tmp_path / "arguments.json", tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FAKE.format(log=str(log)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return log


def write(path: Path, wave: np.ndarray) -> Path:
    soundfile.write(path, wave, 8000, format="WAV", subtype="PCM_16")
    return path


@pytest.mark.parametrize("name", ["a.m4a", "-b.webm", "http:c.MP4"])
def test_other_formats_are_decoded_by_ffmpeg(tmp_path: Path, arguments: Path, name: str) -> None:
    wave = np.round(np.random.default_rng(0).uniform(-1, 1, 800) * 32767) / 32768
    samples, rate = read_audio(write(tmp_path / name, wave))
    assert rate == 8000
    np.testing.assert_allclose(samples, wave, atol=1e-6)
    said = arguments.read_text()
    assert f'"file:{tmp_path / name}"' in said, "never an option or an address"
    assert '"-protocol_whitelist", "file"' in said and '"-format_whitelist"' in said


def test_failure_of_ffmpeg_is_one_line(tmp_path: Path, arguments: Path) -> None:
    (tmp_path / "a.m4a").write_bytes(b"bad")
    message = r"a\.m4a: ffmpeg cannot decode it \(Invalid data found when processing input\)$"
    with pytest.raises(ValueError, match=message):
        read_audio(tmp_path / "a.m4a")


def test_without_ffmpeg_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.m4a").write_bytes(b"some")
    monkeypatch.setattr(ffmpeg.shutil, "which", lambda name: None)
    message = r"a\.m4a: \.m4a needs ffmpeg: install it, or .*\(ffmpeg -i a\.m4a a\.wav\)$"
    with pytest.raises(ValueError, match=message):
        read_audio(tmp_path / "a.m4a")
