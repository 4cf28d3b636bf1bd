"""Exit codes and messages of exceptions, interrupts, warnings and closed pipes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tacoskip.cli import app
from tacoskip.cli.console import Bar, emit, home_folder, log, table

ROOT = Path(__file__).resolve().parents[1]


def tacoskip(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("expected\n  this"), 2, "error: expected this"),
        (FileNotFoundError(2, "No such file", "x.wav"), 2, "error: x.wav: No such file"),
        (OSError(36, "File name too long", "nnn"), 2, "error: nnn: File name too long"),
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


def test_piped_progress_has_elapsed_and_remaining_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import rich.progress  # noqa: F401 (it takes the clock that it finds when it is imported)

    clock = iter([0.0, 0.0, 9.0, 69.0, 69.0, 129.0, 130.0, 190.0, 250.0])
    monkeypatch.setattr("tacoskip.cli.console.time.monotonic", lambda: next(clock))
    bar = Bar("train")  # of a run that resumes at a half
    bar.show(0.5, "aligning texts and recordings")
    bar.show(0.5, "step 50")
    bar.show(0.75, "step 75")
    assert capsys.readouterr().err == "train  75% step 75 (1.1 min elapsed, 1.0 min left)\n"
    bar.show(0.0, "another phase")
    bar.show(0.5, "step 5")
    assert capsys.readouterr().err == "train  50% step 5 (2.1 min elapsed, 1.0 min left)\n"
    bar.show(0.0, "4 runs remain")
    bar.show(0.0, "4 runs remain")  # time until the first run has ended counts
    capsys.readouterr()
    bar.show(0.25, "3 runs remain")
    assert capsys.readouterr().err == "train  25% 3 runs remain (4.2 min elapsed, 6.0 min left)\n"


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = command.replace("tacoskip", f"{sys.executable} -m tacoskip.cli")
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=folder)


@pytest.mark.hostile
def test_closed_standard_streams_are_no_errors(tmp_path: Path) -> None:
    done = shell("tacoskip config recipe=fsdd <&- >&- 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = shell("tacoskip synthesize run - <&-", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: standard input: expected a line of text, got none\n"


@pytest.mark.hostile
def test_reader_that_leaves_ends_a_command_quietly(tmp_path: Path) -> None:
    done = shell("tacoskip config recipe=fsdd | true; exit ${PIPESTATUS[0]}", tmp_path)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.hostile
def test_tables_end_as_other_output_does_when_the_reader_leaves(tmp_path: Path) -> None:
    done = shell("tacoskip settings | true; exit ${PIPESTATUS[0]}", tmp_path)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.hostile
def test_help_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    done = shell("tacoskip --help >/dev/full", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr == "error: standard output: No space left on device\n"


@pytest.mark.hostile
def test_user_without_home_or_passwd_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with home_folder():
        cache = Path(os.environ["XDG_CACHE_HOME"])
        assert cache.is_dir() and not list(cache.iterdir())
    assert not cache.exists()
    unknown = "import pwd; pwd.getpwuid = {}.__getitem__; from tacoskip.cli import main; main()"
    command = [sys.executable, "-c", unknown, "config", "recipe=fsdd", "block=residual"]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.hostile
def test_escape_codes_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    emit(table(["speaker"], [["\x1b[31mred\x9b0m"]]))
    log("clip \x1b]0;title\x07")
    with Bar("prepare") as bar:
        bar.show(0.5, "\x1b[2J")
    shown = capsys.readouterr()
    assert "?[31mred?0m" in shown.out
    assert not {"\x1b", "\x07", "\x9b"} & set(shown.out + shown.err)
