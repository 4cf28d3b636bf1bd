"""Ablations of a few real steps: what runs share, failures, resuming, launchers."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import tacoskip
from tacoskip.ablation import worker
from tacoskip.ablation.collect import collect
from tacoskip.ablation.plan import DONE, FAILED, PLANNED, Plan, PlannedRun
from tacoskip.ablation.request import parse_request, resolve
from tacoskip.cli import app
from tacoskip.files import FolderInUse, folder_lock
from tacoskip.run_folder import checkpoints, load_checkpoint

from .conftest import ablate, runs_of


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


@pytest.mark.usefixtures("without_training")
def test_resumed_ablation_leaves_further_seeds_of_the_baseline_for_last(
    pairs: list[str], in_process: list[str]
) -> None:
    asked = [*pairs, "blocks=plain", "seeds=2", "baseline_seeds=3", "aa=none", "match=none"]
    folder = ablate([*asked, "check=warn"]).folder
    lost = ["plain/seed-0", "highway/seed-2"]
    for run in lost:
        (folder / run / "result.json").unlink()
    in_process.clear()
    ablate([*asked, "check=warn"])
    assert in_process == lost


def test_ablation_in_which_no_run_is_done_exits_1(
    pairs: list[str], in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "work", lambda run: 1 / 0)
    asked = ["ablate", *pairs, "blocks=plain", "seeds=1", "aa=none", "match=none"]
    result = CliRunner().invoke(app, asked)
    assert in_process == ["highway/seed-0", "plain/seed-0"]
    assert result.exit_code == 1
    assert "left out: plain/seed-0: division by zero" in result.stderr


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["aa=dense"], "expected a block that is among blocks="),
        (["run=run"], "run is the folder of a run; choose another run="),
        (["run=broken"], "broken/ablation.json: expected the plan of an ablation"),
    ],
)
def test_wrong_request_is_refused_before_preparing(
    pairs: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run/checkpoints").mkdir(parents=True)
    Path("broken").mkdir()
    Path("broken/ablation.json").write_text("{}")
    asked = ["ablate", "recipe=smoke", "data.root=nowhere", "blocks=plain", "train.max_steps=1"]
    result = CliRunner().invoke(app, [*asked, *pairs])
    assert result.exit_code == 2 and message in result.stderr


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
    whole = worker.work

    def broken(run: Path) -> None:
        if run.parent.name == "plain":
            raise FloatingPointError("20 steps in a row were not finite")
        whole(run)

    monkeypatch.setattr(worker, "work", broken)
    folder = ablate([*pairs, "blocks=plain,residual", "seeds=1", "aa=none", "match=none"]).folder
    states = {run.variant: (run.state, run.error) for run in runs_of(folder)}
    assert states["plain"] == (FAILED, "20 steps in a row were not finite")
    assert states["residual"] == (DONE, "")
    monkeypatch.setattr(worker, "work", whole)
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
