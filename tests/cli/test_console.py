"""What becomes of an exception, an interrupt, a warning and a closed pipe."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tacoskip.cli import app

ROOT = Path(__file__).resolve().parents[1]


def tacoskip(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("expected\n  this"), 2, "error: expected this"),
        (FileNotFoundError(2, "No such file", "x.wav"), 2, "error: x.wav: No such file"),
        (RuntimeError("out of memory"), 1, "error: out of memory"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device"),
        (KeyError("mel"), 1, "error: KeyError: 'mel' (TACOSKIP_DEBUG=1 shows where)"),
    ],
)
def test_an_exception_becomes_a_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str
) -> None:
    def fail() -> list[Any]:
        raise error

    monkeypatch.setattr("tacoskip.cli.doctor.examine", fail)
    monkeypatch.delenv("TACOSKIP_DEBUG", raising=False)
    result = tacoskip("doctor")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"{said}\n")
    monkeypatch.setenv("TACOSKIP_DEBUG", "1")
    result = tacoskip("doctor")
    assert result.exit_code == code
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == said


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> list[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr("tacoskip.cli.doctor.examine", interrupt)
    result = tacoskip("doctor")
    assert result.exit_code == 130
    assert result.stderr.startswith("interrupted")


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    # `yes | head`, as it were: the pipe is closed before the command writes into it.
    reader, writer = os.pipe()
    os.close(reader)
    script = (
        "import typer\nfrom tacoskip.cli.console import emit_json, guarded\n"
        "app = typer.Typer()\n@app.command()\n@guarded\ndef f() -> None: emit_json({})\napp()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
