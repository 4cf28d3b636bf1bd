"""`tacoskip doctor` in a healthy and in a broken environment."""

import json
import sys

import pytest
from typer.testing import CliRunner, Result

from tacoskip.cli import app


def tacoskip(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_doctor_finds_this_environment_healthy() -> None:
    report = json.loads(tacoskip("doctor", "--json").stdout)
    assert report["healthy"] is True
    names = {check["name"] for check in report["checks"]}
    assert {
        "python",
        "torch",
        "torchaudio",
        "device",
        "bf16",
        "audio files",
        "disk",
        "compiled kernels",
    } <= names
    assert "torchaudio" in tacoskip("doctor").stdout


def test_doctor_reports_broken_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)  # an import of it now fails
    monkeypatch.setitem(sys.modules, "soundfile", None)
    result = tacoskip("doctor", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    broken = {check["name"]: check["detail"] for check in report["checks"] if check["ok"] is False}
    assert set(broken) == {"torchaudio", "audio files"}
    assert "reinstall" in broken["torchaudio"]
    assert report["healthy"] is False
