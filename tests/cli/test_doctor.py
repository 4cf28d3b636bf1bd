"""The doctor on a healthy patient and on a sick one."""

import json
import sys

import pytest
from typer.testing import CliRunner, Result

from tacoskip.cli import app


def tacoskip(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_doctor_finds_this_environment_healthy() -> None:
    told = json.loads(tacoskip("doctor", "--json").stdout)
    assert told["healthy"] is True
    names = {check["name"] for check in told["checks"]}
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


def test_doctor_survives_what_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)  # an import of it now fails
    monkeypatch.setitem(sys.modules, "soundfile", None)
    result = tacoskip("doctor", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    broken = {check["name"]: check["detail"] for check in told["checks"] if check["ok"] is False}
    assert set(broken) == {"torchaudio", "soundfile"}
    assert "reinstall" in broken["torchaudio"]
    assert told["healthy"] is False
