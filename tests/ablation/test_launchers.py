"""Where the runs of an ablation are executed: workers, signals, clusters."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tacoskip.ablation import launchers
from tacoskip.ablation.compare import Comparison
from tacoskip.ablation.plan import DONE
from tacoskip.cli import app
from tacoskip.files import folder_lock
from tacoskip.run_folder import checkpoints

from .conftest import ablate, runs_of


def execute(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> launchers.Ended:
    """Run a worker that is this code with the local launcher."""
    popen = launchers.subprocess.Popen
    (tmp_path / "request.json").touch()
    monkeypatch.setattr(launchers, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(
        launchers.subprocess, "Popen", lambda _, **rest: popen([sys.executable, "-c", code], **rest)
    )
    (ended,) = [one for one in launchers.launch("local", [tmp_path], 1, 1, print) if one[0]]
    assert ended[0] == tmp_path
    return ended


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; print('error: no memory', file=sys.stderr); sys.exit(1)", "no memory"),
        ("import sys; sys.exit(3)", "ended with code 3, see log.txt"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL, perhaps out of memory"),
        ("", "ended with code 0"),
    ],
)
def test_error_says_how_a_worker_ended(
    code: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert words in execute(code, monkeypatch, tmp_path)[1]


def test_worker_inherits_the_lock_of_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So a folder stays locked when `ablate` is killed and its workers are not."""
    with folder_lock(tmp_path) as lock:
        os.set_inheritable(lock, True)
        monkeypatch.setenv("LOCK", str(lock))
        code = "import os; os.fstat(int(os.environ['LOCK']))"
        assert "code 0" in execute(code, monkeypatch, tmp_path)[1]


@pytest.mark.hostile
def test_log_of_a_worker_is_written_through_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, precious = tmp_path / "run", tmp_path / "precious"
    run.mkdir()
    precious.write_text("precious")
    (run / "request.json").touch()
    (run / "log.txt").symlink_to(precious)
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    assert "ended with code 0" in launchers.run_worker(run, 1, "", {})
    assert precious.read_text() == "precious" and not (run / "log.txt").is_symlink()


@pytest.mark.hostile
def test_worker_ends_with_its_parent(tmp_path: Path) -> None:
    code = """
import os, subprocess, sys
inner = "import os, time; from tacoskip.ablation import worker; print(1, flush=True);"
inner += f"worker.exit_with_parent({os.getpid()}); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", inner])
input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    process.kill()
    assert process.stdout.read() == b"", (
        "the pipe closes when the last process that holds it has ended"
    )
    process.communicate()


@pytest.mark.parametrize(
    ("launcher", "number"),
    [
        ("local", signal.SIGTERM),
        pytest.param("ray", signal.SIGINT, marks=pytest.mark.ray),
        pytest.param("ray", signal.SIGTERM, marks=pytest.mark.ray),
        pytest.param("ray", signal.SIGHUP, marks=pytest.mark.ray),
    ],
)
def test_interrupted_ablation_saves_the_runs_in_progress(
    launcher: str, number: int, pairs: list[str], tmp_path: Path
) -> None:
    if launcher == "ray":
        pytest.importorskip("ray", reason="the ray extra is not installed")
    asked = [*pairs, "blocks=residual", "seeds=1", "aa=none", "match=none", "jobs=1"]
    asked += ["train.max_steps=100000", "train.log_every=1", "train.threads=1"]
    command = [sys.executable, "-m", "tacoskip.cli", "ablate", *asked, f"launcher={launcher}"]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=_reset_signals
    )
    log = tmp_path / "ablation" / "highway" / "seed-0" / launchers.LOG
    while not (log.is_file() and "step 1" in log.read_text()):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    process.send_signal(number)
    try:
        output = process.communicate(timeout=300)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"not interrupted: {process.communicate()[1]}\n{log.read_text()[-2000:]}")
    assert process.returncode == 128 + number, output
    assert launchers.SAVING in output and "Traceback" not in output
    assert checkpoints(log.parent), "expected a checkpoint before one was due"


@pytest.mark.faults
def test_killed_ablation_is_resumed_once_its_workers_have_ended(
    pairs: list[str], tmp_path: Path
) -> None:
    asked = [*pairs, "blocks=residual", "seeds=1", "aa=none", "match=none", "jobs=2"]
    asked += ["train.max_steps=60", "train.log_every=1", "train.threads=1"]
    command = [sys.executable, "-m", "tacoskip.cli", "ablate", *asked]
    logs = [tmp_path / f"ablation/{name}/seed-0/log.txt" for name in ("highway", "residual")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not any(log.is_file() and "step 1" in log.read_text() for log in logs):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    refused = 0
    while (again := subprocess.run(command, capture_output=True, text=True)).returncode:
        assert again.returncode == 2 and "is in use by" in again.stderr, again.stderr
        refused += 1
        assert refused < 20
    assert {run.state for run in runs_of(tmp_path / "ablation")} == {DONE}
    assert all(log.read_text().count("done: 60 steps") == 1 for log in logs)


def _reset_signals() -> None:
    """A shell that starts the tests in the background may have had them ignore a signal."""
    for number in launchers.SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with launchers._signals_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("launcher", ["ray", "slurm"])
def test_launcher_that_is_not_installed_is_refused_before_preparing(
    launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "find_spec", lambda _: None)
    asked = ["ablate", "recipe=smoke", "blocks=plain", f"launcher={launcher}"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2
    assert f"install tacoskip[{launcher}]" in result.stderr


def results(comparison: Comparison) -> dict[str, dict[str, float]]:
    assert {run.state for run in comparison.runs} == {DONE}
    return {run.name: run.figures for run in comparison.runs}


@pytest.mark.parametrize("launcher", ["slurm", pytest.param("ray", marks=pytest.mark.ray)])
def test_launchers_give_the_results_of_this_process(
    launcher: str, pairs: list[str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = {"slurm": "submitit"}.get(launcher, launcher)
    pytest.importorskip(module, reason=f"the {launcher} extra is not installed")
    monkeypatch.setattr(launchers, "SLURM_EXECUTOR", "local")
    asked = [*pairs, "blocks=residual", "seeds=1", "aa=none", "match=none", "train.threads=1"]
    other = [f"{pair}-{launcher}" if pair.startswith("run=") else pair for pair in asked]
    two_each = ["runs_per_job=2"] if launcher == "slurm" else []
    found = results(ablate([*other, f"launcher={launcher}", *two_each]))
    request.getfixturevalue("in_process")
    assert found == results(ablate(asked))


def test_failed_slurm_job_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the slurm extra is not installed")
    monkeypatch.setattr(launchers, "SLURM_EXECUTOR", "debug")
    monkeypatch.setattr(launchers, "POLL_SECONDS", 0.02)
    ended = [one for one in launchers.launch("slurm", [tmp_path / "gone"], 1, 1, print) if one[0]]
    assert "does not see" in ended[0][1]


@pytest.mark.slow
def test_preempted_slurm_job_saves_and_resumes(
    pairs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="the slurm extra is not installed")
    monkeypatch.setattr("tacoskip.ablation.ablate.launch", lambda *_: (_ for _ in ()))  # plan only
    asked = [*pairs, "blocks=residual", "seeds=1", "aa=none", "match=none", "train.threads=1"]
    asked += ["train.max_steps=40", "train.evaluate_every=2"]
    run = ablate(asked).folder / "residual/seed-0"
    job, log = launchers.SlurmTask(1, os.getcwd(), {}), run / launchers.LOG
    errors: list[list[str]] = []
    thread = threading.Thread(target=lambda: errors.append(job([run])))
    thread.start()
    while not (log.is_file() and "step 2" in log.read_text()):
        assert thread.is_alive(), errors
        time.sleep(0.05)
    queued_again = job.checkpoint([run])
    thread.join()
    assert checkpoints(run), "expected a checkpoint before one was due"
    assert queued_again.result() == [""]
    assert "resumed" in log.read_text()
    assert json.loads((run / "result.json").read_text())["steps"] == 40
