"""Ablations of a few real steps: what runs share, failures, resuming, launchers."""

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
import torch
from typer.testing import CliRunner

import tacoskip
from tacoskip.ablation import launchers
from tacoskip.ablation.collect import Run, collect
from tacoskip.ablation.compare import Comparison
from tacoskip.ablation.plan import DONE, FAILED, PLANNED, Plan, PlannedRun
from tacoskip.ablation.request import parse_request, resolve
from tacoskip.ablation.worker import work
from tacoskip.cli import app
from tacoskip.data.prepare import prepare
from tacoskip.files import FolderInUse, folder_lock
from tacoskip.run_folder import checkpoints, load_checkpoint


@pytest.fixture
def pairs(tiny_corpus: Path, tmp_path: Path) -> list[str]:
    return [
        *("recipe=smoke", f"data.root={tiny_corpus}", f"data.dir={tmp_path / 'data'}"),
        *("data.validation=3", "data.test=2", "train.device=cpu", "train.max_steps=2"),
        f"run={tmp_path / 'ablation'}",
    ]


@pytest.fixture
def in_process(undrawn: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Execute runs in this process; returns the names of those executed."""
    ran: list[str] = []

    def run(launcher: str, runs: list[Path], *_: object) -> launchers.Iterator[launchers.Ended]:
        for path in runs:
            ran.append(f"{path.parent.name}/{path.name}")
            try:
                work(path)
            except Exception as error:
                yield path, str(error)
            else:
                yield path, ""

    monkeypatch.setattr("tacoskip.ablation.ablate.launch", run)
    return ran


@pytest.fixture
def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process end at once: losses of `plain` are far worse than all others, losses
    without the stack are worse from 3 steps on.
    """

    def result(run: Path) -> None:
        seed = int(run.name.removeprefix("seed-"))
        steps = json.loads((run / "request.json").read_text())["train"]["max_steps"]
        worse = {"plain": 9, "without-stack": 9 * (steps > 2)}
        loss = 1 + seed % 3 / 100 + worse.get(run.parent.name, 0)
        (run / "result.json").write_text(json.dumps({"figures": {"loss": loss}}))

    monkeypatch.setitem(globals(), "work", result)


def ablate(pairs: list[str]) -> Comparison:
    request, base = resolve(parse_request(pairs))
    prepare(base)
    return tacoskip.ablate(request, log=lambda _: None)


def runs_of(folder: Path) -> list[Run]:
    return collect(folder)[1]


def test_runs_of_a_seed_share_data_and_initial_weights(
    pairs: list[str], in_process: list[str]
) -> None:
    one_step = [*pairs, "train.max_steps=1", "train.learning_rate=1e-12", "blocks=residual"]
    comparison = ablate([*one_step, "seeds=1", "match=none"])
    runs = comparison.runs
    assert in_process == ["highway/seed-0", "residual/seed-0", "highway@aa/seed-1000"]
    assert {run.state for run in runs} == {"done"}
    assert comparison.main == "loss"
    saved = {run.name: load_checkpoint(checkpoints(run.folder)[-1]).training for run in runs}
    highway, residual = saved["highway/seed-0"], saved["residual/seed-0"]
    assert highway["batches"] == residual["batches"]
    torch.testing.assert_close(highway["random"], residual["random"])
    shared = [name for name in highway["weights"] if name in residual["weights"]]
    assert len(shared) > 60
    for name in shared:
        if ".norm" not in name:  # running statistics have seen the block's step
            torch.testing.assert_close(highway["weights"][name], residual["weights"][name])
    again = saved["highway@aa/seed-1000"]["weights"]["decoder.frames.weight"]
    assert not torch.equal(again, highway["weights"]["decoder.frames.weight"])
    for run in runs:
        assert {"loss", "alignment", "mcd_db", "stop_failures"} <= run.figures.keys()
        assert {"parameters", "macs_per_frame", "latency_ms", "peak_memory_mb"} <= run.cost.keys()
        assert 0 < run.cost["initial_correlation"] < 1
        assert len(run.clips["loss"]) == 3 and run.start == "as published"


@pytest.mark.usefixtures("without_training")
def test_ablation_resumes_and_grows_under_the_same_terms(
    pairs: list[str], in_process: list[str]
) -> None:
    first = [*pairs, "blocks=plain", "seeds=1", "aa=none"]
    folder = ablate(first).folder
    assert in_process == ["highway/seed-0", "plain/seed-0"]
    matched = json.loads((folder / "ablation.json").read_text())["matched"]
    assert abs(matched["plain"]["percent"]) < 2
    in_process.clear()
    ablate(first)
    assert in_process == []
    ablate([*pairs, "blocks=dense", "seeds=1", "aa=none"])
    assert in_process == ["dense/seed-0"]
    plan, runs = collect(folder)
    assert [run.name for run in runs] == ["highway/seed-0", "plain/seed-0", "dense/seed-0"]
    assert plan is not None
    assert plan.blocks == ["highway", "plain", "dense"]
    with pytest.raises(ValueError, match="holds an ablation with match 'params', got 'none'"):
        ablate([*first, "match=none"])
    with pytest.raises(ValueError, match=r"with margin '2\.0', got '1\.0'"):
        ablate([*first, "margin=1"])


@pytest.mark.usefixtures("in_process", "without_training")
def test_undecided_variants_get_more_seeds(pairs: list[str]) -> None:
    asked = [*pairs, "blocks=plain,residual", "seeds=2..6", "margin=0", "match=none", "aa=none"]
    comparison = ablate(asked)
    runs = {variant.name: len(variant.seeds) for variant in comparison.variants}
    assert runs == {"highway": 8, "plain": 2, "residual": 6}
    assert comparison.level == pytest.approx(0.05 / 3)
    verdicts = {k: one.verdict for k, one in comparison.analyses["loss"].differences.items()}
    assert verdicts == {"plain": "worse", "residual": "cannot tell"}


@pytest.mark.usefixtures("without_training")
def test_budget_that_does_not_test_blocks_stops_at_the_check_of_the_stack(
    pairs: list[str], in_process: list[str]
) -> None:
    asked = [*pairs, "blocks=plain", "seeds=2", "baseline_seeds=2", "aa=none", "match=none"]
    both = [f"{name}/seed-{seed}" for seed in (0, 1) for name in ("highway", "without-stack")]
    found = ablate([*asked, "check=stack"])
    assert in_process == both
    assert not found.valid and "this budget does not test blocks" in found.check
    assert found.check in found.warnings
    assert ablate([*asked, "check=stack"]).check == found.check and in_process == both
    assert not ablate([*asked, "check=warn"]).valid
    assert in_process == [*both, "plain/seed-0", "plain/seed-1"]
    longer = [*asked, "train.max_steps=3", f"run={found.folder}-longer"]
    found = ablate([*longer, "check=stack"])
    assert found.valid and "removing the stack hurts" in found.check
    assert in_process[6:] == [*both, "plain/seed-0", "plain/seed-1"]


def test_variant_that_cannot_match_is_left_out(
    pairs: list[str], in_process: list[str], without_training: None
) -> None:
    asked = [*pairs, "blocks=wide,residual", "depths=1,40", "seeds=1", "aa=none", "match=stack"]
    found = ablate([*asked, "cbhg.channels=64", "postnet.channels=48"])
    assert "wide,depth=40/seed-0" not in in_process and "residual/seed-0" in in_process
    (warning,) = (one for one in found.warnings if one.startswith("left out: wide,depth=40"))
    assert "misses the baseline's stack by +" in warning
    config = json.loads((found.folder / "residual/seed-0/request.json").read_text())
    assert config["block_options"]["width"] != 1 and config["cbhg"]["channels"] == 64


@pytest.mark.usefixtures("without_training")
def test_failed_run_is_recorded_and_executed_again_later(
    pairs: list[str], in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = work

    def broken(run: Path) -> None:
        if run.parent.name == "plain":
            raise FloatingPointError("20 steps in a row were not finite")
        whole(run)

    monkeypatch.setitem(globals(), "work", broken)
    folder = ablate([*pairs, "blocks=plain,residual", "seeds=1", "aa=none", "match=none"]).folder
    states = {run.variant: (run.state, run.error) for run in runs_of(folder)}
    assert states["plain"] == (FAILED, "20 steps in a row were not finite")
    assert states["residual"] == (DONE, "")
    monkeypatch.setitem(globals(), "work", whole)
    in_process.clear()
    ablate([*pairs, "blocks=plain,residual", "seeds=1", "aa=none", "match=none"])
    assert in_process == ["plain/seed-0"]
    assert {run.state for run in runs_of(folder)} == {DONE}


def test_command_executes_runs_and_compares_them(pairs: list[str], tmp_path: Path) -> None:
    asked = ["ablate", *pairs, "blocks=residual", "seeds=1", "aa=none", "match=none", "jobs=2"]
    result = CliRunner().invoke(app, [*asked, "--json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert {one["name"] for one in found["variants"]} == {"highway", "residual"}
    assert (tmp_path / "ablation" / "report.html").is_file()
    assert "2 of 2" in result.stderr


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


def test_plan_ignores_the_order_of_settings(tmp_path: Path) -> None:
    def plan(*overrides: str) -> Plan:
        return Plan("smoke", "highway", "loss", ["plain"], "none", list(overrides))

    plan("train.max_steps=4", "data.limit=9", "data.limit=5").save(tmp_path)
    plan("data.limit=5", "train.max_steps=4").merge(tmp_path)
    message = r"holds an ablation with train\.max_steps '4', got '8'; choose another run="
    with pytest.raises(ValueError, match=message):
        plan("data.limit=5", "train.max_steps=8").merge(tmp_path)
    with pytest.raises(ValueError, match=r"with seed 'unchanged', got '3'"):
        plan("data.limit=5", "train.max_steps=4", "seed=3").merge(tmp_path)


def test_run_without_a_result_is_planned_again(tmp_path: Path) -> None:
    runs = [PlannedRun(f"plain/seed-{n}", "plain", n, DONE) for n in range(2)]
    plan = Plan("smoke", "highway", "loss", ["plain"], "none", [], runs=runs)
    plan.save(tmp_path)
    (tmp_path / runs[0].run).mkdir(parents=True)
    (tmp_path / runs[0].run / "result.json").write_text("{}")
    plan.merge(tmp_path)
    assert [run.run for run in plan.runs if run.state != DONE] == ["plain/seed-1"]


def test_folder_of_a_run_is_refused(pairs: list[str], in_process: list[str]) -> None:
    Path(resolve(parse_request([*pairs, "blocks=plain"]))[1].run, "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match="is the folder of a run; choose another run="):
        ablate([*pairs, "blocks=plain"])
    assert in_process == []


@pytest.mark.hostile
def test_second_ablation_of_a_folder_is_refused(pairs: list[str], in_process: list[str]) -> None:
    folder = resolve(parse_request([*pairs, "blocks=plain"]))[1].run
    with folder_lock(folder), pytest.raises(FolderInUse, match="is in use by process"):
        ablate([*pairs, "blocks=plain"])
    assert in_process == []


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
def test_ablation_keeps_no_token_of_an_address(pairs: list[str], tmp_path: Path) -> None:
    """Plan, report and the requests of the workers would hold it."""
    secret = [*pairs, "data.root=https://example.org/a?token=hidden", "blocks=plain"]
    with pytest.raises(ValueError, match="put the whole address into TACOSKIP_ADDRESS") as refused:
        tacoskip.ablate(parse_request(secret), log=lambda _: None)
    assert "hidden" not in str(refused.value) and not (tmp_path / "ablation").exists()


def test_saved_plan_overrides_and_foreign_file_is_refused(tmp_path: Path) -> None:
    runs = [PlannedRun("plain/seed-0", "plain", 0)]
    plan = Plan("smoke", "highway", "loss", ["plain"], "none", [], runs=runs)
    plan.save(tmp_path)
    runs[0].state = DONE
    plan.merge(tmp_path)
    assert [run.state for run in plan.runs] == [PLANNED]
    (tmp_path / "ablation.json").write_text("[]")
    with pytest.raises(ValueError, match="expected the plan of an ablation"):
        plan.merge(tmp_path)


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
        pytest.importorskip("ray")
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
    pytest.importorskip({"slurm": "submitit"}.get(launcher, launcher))
    monkeypatch.setattr(launchers, "SLURM_EXECUTOR", "local")
    asked = [*pairs, "blocks=residual", "seeds=1", "aa=none", "match=none", "train.threads=1"]
    other = [f"{pair}-{launcher}" if pair.startswith("run=") else pair for pair in asked]
    found = results(ablate([*other, f"launcher={launcher}"]))
    request.getfixturevalue("in_process")
    assert found == results(ablate(asked))


def test_failed_slurm_job_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr(launchers, "SLURM_EXECUTOR", "debug")
    monkeypatch.setattr(launchers, "POLL_SECONDS", 0.02)
    ended = [one for one in launchers.launch("slurm", [tmp_path / "gone"], 1, 1, print) if one[0]]
    assert "does not see" in ended[0][1]


@pytest.mark.slow
def test_preempted_slurm_job_saves_and_resumes(
    pairs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr("tacoskip.ablation.ablate.launch", lambda *_: (_ for _ in ()))  # plan only
    asked = [*pairs, "blocks=residual", "seeds=1", "aa=none", "match=none", "train.threads=1"]
    asked += ["train.max_steps=40", "train.evaluate_every=2"]
    run = ablate(asked).folder / "residual/seed-0"
    job, log = launchers.SlurmTask(1, os.getcwd(), {}), run / launchers.LOG
    errors: list[str] = []
    thread = threading.Thread(target=lambda: errors.append(job(run)))
    thread.start()
    while not (log.is_file() and "step 2" in log.read_text()):
        assert thread.is_alive(), errors
        time.sleep(0.05)
    queued_again = job.checkpoint(run)
    thread.join()
    assert checkpoints(run), "expected a checkpoint before one was due"
    assert queued_again.result() == ""
    assert "resumed" in log.read_text()
    assert json.loads((run / "result.json").read_text())["steps"] == 40
