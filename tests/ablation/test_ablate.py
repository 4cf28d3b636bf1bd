"""An ablation carried out: real runs of a few steps, failures, going on, what runs share."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tacoskip.ablation import launch as launching
from tacoskip.ablation.ablate import ablate, settle
from tacoskip.ablation.collect import collect
from tacoskip.ablation.grid import read_request
from tacoskip.ablation.plan import DONE, FAILED, PLANNED, Plan, PlannedRun
from tacoskip.ablation.worker import work
from tacoskip.cli import app
from tacoskip.config import ConfigError
from tacoskip.data.prepare import prepare
from tacoskip.run_folder import checkpoints, load_checkpoint


@pytest.fixture
def pairs(tiny_corpus: Path, tmp_path: Path) -> list[str]:
    return [
        *("recipe=smoke", f"data.root={tiny_corpus}", f"data.dir={tmp_path / 'data'}"),
        *("data.validation=3", "data.test=2", "train.device=cpu", "train.max_steps=2"),
        f"run={tmp_path / 'ablation'}",
    ]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs happen in this process, one after another; returns the names of those that ran."""
    ran: list[str] = []

    def run(launcher: str, runs: list[Path], *_: object) -> launching.Iterator:
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


def carry_out(pairs: list[str]) -> Path:
    request = read_request(pairs)
    base = settle(request)
    prepare(base)
    return ablate(request, base, lambda *_: None, lambda _: None)


def test_runs_of_a_seed_share_data_and_first_weights(pairs: list[str], here: list[str]) -> None:
    one_step = [*pairs, "train.max_steps=1", "train.learning_rate=1e-12", "blocks=residual"]
    folder = carry_out([*one_step, "seeds=1", "match=none"])
    plan, runs = collect(folder)
    assert here == ["highway/seed-0", "residual/seed-0", "highway@aa/seed-1"]
    assert {run.state for run in runs} == {"done"}
    assert plan["figure"] == "loss"
    saved = {run.name: load_checkpoint(checkpoints(run.folder)[-1]).training for run in runs}
    highway, residual = saved["highway/seed-0"], saved["residual/seed-0"]
    assert highway["batches"] == residual["batches"]
    torch.testing.assert_close(highway["random"], residual["random"])
    shared = [name for name in highway["weights"] if name in residual["weights"]]
    assert len(shared) > 60
    for name in shared:
        if ".norm" not in name:  # running statistics have seen the block's step
            torch.testing.assert_close(highway["weights"][name], residual["weights"][name])
    again = saved["highway@aa/seed-1"]["weights"]["decoder.frames.weight"]
    assert not torch.equal(again, highway["weights"]["decoder.frames.weight"])
    for run in runs:
        assert {"loss", "alignment", "mcd_db", "stop_failures"} <= run.figures.keys()
        assert {"parameters", "macs_per_frame", "latency_ms", "peak_memory_mb"} <= run.cost.keys()


def test_it_goes_on_where_it_ended_and_keeps_its_terms(pairs: list[str], here: list[str]) -> None:
    first = [*pairs, "blocks=plain", "seeds=1", "aa=none"]
    folder = carry_out(first)
    assert here == ["highway/seed-0", "plain/seed-0"]
    matched = json.loads((folder / "ablation.json").read_text())["matched"]
    assert abs(matched["plain"]["percent"]) < 2
    here.clear()
    carry_out(first)
    assert here == []
    carry_out([*pairs, "blocks=dense", "seeds=1", "aa=none"])
    assert here == ["dense/seed-0"]
    plan, runs = collect(folder)
    assert [run.name for run in runs] == ["highway/seed-0", "dense/seed-0", "plain/seed-0"]
    assert plan["blocks"] == ["highway", "plain", "dense"]
    with pytest.raises(ValueError, match="holds an ablation with match 'params', asked is 'none'"):
        carry_out([*first, "match=none"])


def test_a_run_that_fails_is_recorded_and_the_rest_go_on(
    pairs: list[str], here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = work

    def broken(run: Path) -> dict[str, object]:
        if run.parent.name == "plain":
            raise FloatingPointError("20 steps in a row were not finite")
        return whole(run)

    monkeypatch.setitem(globals(), "work", broken)
    folder = carry_out([*pairs, "blocks=plain,residual", "seeds=1", "aa=none", "match=none"])
    states = {run.variant: (run.state, run.error) for run in collect(folder)[1]}
    assert states["plain"] == (FAILED, "20 steps in a row were not finite")
    assert states["residual"] == (DONE, "")
    monkeypatch.setitem(globals(), "work", whole)
    here.clear()
    carry_out([*pairs, "blocks=plain,residual", "seeds=1", "aa=none", "match=none"])
    assert here == ["plain/seed-0"]
    assert {run.state for run in collect(folder)[1]} == {DONE}


def test_without_a_budget_it_does_not_begin() -> None:
    with pytest.raises(ConfigError, match=r"no budget for an ablation; give train\.max_steps=N"):
        settle(read_request(["recipe=ljspeech", "blocks=plain"]))
    request = read_request(["recipe=fsdd", "blocks=plain", "train.max_steps=7"])
    base = settle(request)
    assert (base.train.max_steps, base.train.max_minutes, base.match) == (7, 0, "params")
    assert base.run == "runs/fsdd-ablation"


def test_the_command_runs_processes_and_compares(pairs: list[str], tmp_path: Path) -> None:
    asked = ["ablate", *pairs, "blocks=residual", "seeds=1", "aa=none", "match=none", "jobs=2"]
    result = CliRunner().invoke(app, [*asked, "--json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert {one["name"] for one in found["variants"]} == {"highway", "residual"}
    assert (tmp_path / "ablation" / "report.html").is_file()
    assert "2 of 2" in result.stderr


def quick(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, str]:
    """What the local launcher makes of a worker that is this code."""
    popen = launching.subprocess.Popen
    monkeypatch.setattr(launching, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(
        launching.subprocess, "Popen", lambda _, **rest: popen([sys.executable, "-c", code], **rest)
    )
    (ended,) = [one for one in launching.launch("local", [tmp_path], 1, 1, print) if one[0]]
    assert ended[0] == tmp_path
    return ended  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; print('error: no memory', file=sys.stderr); sys.exit(1)", "no memory"),
        ("import sys; sys.exit(3)", "ended with code 3, see log.txt"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL, perhaps out of memory"),
        ("", "ended with code 0"),
    ],
)
def test_how_a_worker_ended_is_said(
    code: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert words in quick(code, monkeypatch, tmp_path)[1]


def test_the_order_of_settings_is_no_other_ablation(tmp_path: Path) -> None:
    def plan(*overrides: str) -> Plan:
        return Plan("smoke", "highway", "loss", ["plain"], 1, "none", list(overrides))

    plan("train.max_steps=4", "data.limit=9", "data.limit=5").save(tmp_path)
    plan("data.limit=5", "train.max_steps=4").take_over(tmp_path)
    said = r"holds an ablation with train\.max_steps '4', asked is '8'; choose another run="
    with pytest.raises(ValueError, match=said):
        plan("data.limit=5", "train.max_steps=8").take_over(tmp_path)
    with pytest.raises(ValueError, match=r"with seed 'unchanged', asked is '3'"):
        plan("data.limit=5", "train.max_steps=4", "seed=3").take_over(tmp_path)


def test_a_run_whose_result_is_lost_is_done_again(tmp_path: Path) -> None:
    runs = [PlannedRun(f"plain/seed-{n}", "plain", n, DONE) for n in range(3)]
    plan = Plan("smoke", "highway", "loss", ["plain"], 3, "none", [], runs=runs)
    plan.save(tmp_path)
    for number, content in enumerate(("{}", "{")):  # the third has none
        (tmp_path / runs[number].run).mkdir(parents=True)
        (tmp_path / runs[number].run / "result.json").write_text(content)
    plan.take_over(tmp_path)
    assert [run.run for run in plan.open] == ["plain/seed-1", "plain/seed-2"]


def test_an_ablation_does_not_move_into_a_run(pairs: list[str], here: list[str]) -> None:
    base = settle(read_request([*pairs, "blocks=plain"]))
    Path(base.run, "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match="is a run of its own; choose another run="):
        carry_out([*pairs, "blocks=plain"])
    assert here == []


def test_a_plan_survives_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    runs = [PlannedRun("plain/seed-0", "plain", 0)]
    plan = Plan("smoke", "highway", "loss", ["plain"], 1, "none", [], runs=runs)
    plan.save(tmp_path)
    runs[0].state = DONE
    plan.take_over(tmp_path)
    assert [run.state for run in plan.runs] == [PLANNED]  # what the file says counts
    (tmp_path / "ablation.json").write_text("[]")
    with pytest.raises(ValueError, match="not the plan of an ablation"):
        plan.take_over(tmp_path)


def test_a_worker_ends_with_who_started_it(tmp_path: Path) -> None:
    """Else a run that was started again would have two writers."""
    code = """
import subprocess, sys
inner = "from tacoskip.ablation import worker; worker.end_with_parent(); print(1, flush=True);"
subprocess.Popen([sys.executable, "-c", inner + "import time; time.sleep(600)"])
input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    process.kill()
    assert process.stdout.read() == b"", "the pipe closes when the last who holds it has ended"
    process.communicate()


@pytest.mark.parametrize(
    ("launcher", "number"),
    [
        ("local", signal.SIGINT),
        ("local", signal.SIGTERM),
        pytest.param("ray", signal.SIGINT, marks=pytest.mark.ray),
        pytest.param("ray", signal.SIGTERM, marks=pytest.mark.ray),
        pytest.param("ray", signal.SIGHUP, marks=pytest.mark.ray),
    ],
)
def test_an_interrupted_ablation_saves_what_is_running(
    launcher: str, number: int, pairs: list[str], tmp_path: Path
) -> None:
    if launcher == "ray":
        pytest.importorskip("ray")
    asked = [*pairs, "blocks=residual", "seeds=1", "aa=none", "match=none", "jobs=1"]
    asked += ["train.max_steps=100000", "train.log_every=1", "train.threads=1"]
    command = [sys.executable, "-m", "tacoskip.cli", "ablate", *asked, f"launcher={launcher}"]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=_heed_signals
    )
    log = tmp_path / "ablation" / "highway" / "seed-0" / launching.LOG
    while not (log.is_file() and "step 1" in log.read_text()):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    process.send_signal(number)
    try:
        said = process.communicate(timeout=300)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"it goes on: {process.communicate()[1]}\n{log.read_text()[-2000:]}")
    assert process.returncode == 128 + number, said
    assert launching.SAVING in said and "Traceback" not in said
    assert checkpoints(log.parent), "saved, long before a checkpoint was due"


def _heed_signals() -> None:
    """What starts the tests in the background may have had them ignore a signal."""
    for number in launching.SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with launching._interrupted_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1"),
        ("127.0.0.1", "expected RAY_ADDRESS=HOST:PORT (10.0.0.1:6379), got '127.0.0.1'"),
        (None, "not installed"),
    ],
)
def test_a_cluster_that_cannot_be_is_said_before_anything_is_prepared(
    address: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "find_spec", lambda _: address)
    monkeypatch.setenv("RAY_ADDRESS", address or "auto")
    result = CliRunner().invoke(app, ["ablate", "recipe=smoke", "blocks=plain", "launcher=ray"])
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.ray
def test_ray_gives_the_same_results(pairs: list[str]) -> None:
    pytest.importorskip("ray")
    asked = [*pairs, "blocks=residual", "seeds=1", "aa=none", "match=none", "train.threads=1"]
    local = {run.name: run.figures for run in collect(carry_out(asked))[1]}
    elsewhere = [f"{pair}-ray" if pair.startswith("run=") else pair for pair in asked]
    remote = {run.name: run.figures for run in collect(carry_out([*elsewhere, "launcher=ray"]))[1]}
    assert remote == local
