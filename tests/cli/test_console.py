"""Exit codes and messages of exceptions, interrupts, warnings and closed pipes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tacoskip.cli import app
from tacoskip.cli.console import Bar

ROOT = Path(__file__).resolve().parents[1]


def tacoskip(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("expected\n  this"), 2, "error: expected this"),
        (FileNotFoundError(2, "No such file", "x.wav"), 2, "error: x.wav: No such file"),
        (RuntimeError("out of memory"), 1, "error: out of memory"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device"),
        (KeyError("mel"), 1, "error: KeyError: 'mel' (TACOSKIP_DEBUG=1 shows where)"),
    ],
)
def test_exception_prints_one_line_and_sets_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, message: str
) -> None:
    def fail() -> list[Any]:
        raise error

    monkeypatch.setattr("tacoskip.cli.doctor.examine", fail)
    monkeypatch.delenv("TACOSKIP_DEBUG", raising=False)
    result = tacoskip("doctor")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"{message}\n")
    monkeypatch.setenv("TACOSKIP_DEBUG", "1")
    result = tacoskip("doctor")
    assert result.exit_code == code
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == message


def test_ctrl_c_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> list[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr("tacoskip.cli.doctor.examine", interrupt)
    result = tacoskip("doctor")
    assert result.exit_code == 130
    assert result.stderr.startswith("interrupted")


def test_closed_pipe_prints_no_traceback() -> None:
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
    assert (done.returncode, done.stderr) == (141, "")


def test_piped_progress_has_elapsed_and_remaining_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 0.0, 60.0])
    monkeypatch.setattr("tacoskip.cli.console.time.monotonic", lambda: next(clock))
    bar = Bar("train")  # of a run that resumes at a half
    bar.show(0.5, "step 50")
    bar.show(0.75, "step 75")
    assert capsys.readouterr().err == "train  75% step 75 (1.0 min elapsed, 1.0 min left)\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_errors(closed: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m tacoskip.cli recipes --json {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT.parent)
    assert (done.returncode, done.stderr) == (0, "")
    text = f"{sys.executable} -m tacoskip.cli synthesize run - <&-"
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: standard input: expected a line of text, got none\n"


def test_reader_that_leaves_ends_a_command_quietly() -> None:
    command = f"{sys.executable} -m tacoskip.cli config recipe=fsdd | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT.parent)
    assert (done.returncode, done.stderr) == (141, "")


def test_user_without_home_or_passwd_entry(tmp_path: Path) -> None:
    script = (
        "import os, pwd\nfor name in ('HOME', 'XDG_CACHE_HOME'): os.environ.pop(name, None)\n"
        "def nobody(*_): raise KeyError('uid not found')\n"
        "pwd.getpwuid = nobody\nfrom tacoskip.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert json.loads(done.stdout)["healthy"] is True
