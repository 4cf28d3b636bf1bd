"""Folders of runs: from `ablate`, put together by a user, and broken ones."""

import json
from pathlib import Path

import pytest

from tacoskip.ablation.collect import Run, collect
from tacoskip.ablation.compare import compare
from tacoskip.ablation.plan import DONE, FAILED

from .conftest import MakeAblation, MakeRun


def by_name(runs: list[Run]) -> dict[str, Run]:
    return {run.name: run for run in runs}


def test_ablation_has_the_values_of_its_results(make_ablation: MakeAblation) -> None:
    folder = make_ablation({"highway": [{"mcd_db": 5.0}, {"mcd_db": 5.5}], "plain": [None]})
    plan, runs = collect(folder)
    assert plan is not None
    assert plan.baseline == "highway"
    first, failed = by_name(runs)["highway/seed-1"], by_name(runs)["plain/seed-1"]
    assert (first.variant, first.seed, first.steps, first.minutes) == ("highway", 1, 40, 1.5)
    assert (first.figures, first.cost["latency_ms"]) == ({"mcd_db": 5.0}, 5.0)
    assert (failed.state, failed.variant, failed.error) == (FAILED, "plain", "loss is not finite")


def test_run_folders_side_by_side_are_named_for_block_or_folder(
    make_run: MakeRun, tmp_path: Path
) -> None:
    for seed in (1, 2):
        make_run(f"highway-{seed}", seed=seed, figures={"mcd_db": 5.0 + seed / 10, "loss": 1.0})
    make_run("third", block="plain", figures={"mcd_db": 6.15})
    found = compare(tmp_path / "runs", baseline="highway-1")
    assert [variant.name for variant in found.variants] == ["highway-1", "highway-2", "plain"]
    assert found.analyses["mcd_db"].summaries["plain"].mean == pytest.approx(6.15)
    assert (found.baseline, found.recipe) == ("highway-1", "fsdd")


def test_run_without_finite_figures_does_not_count(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("whole", figures={"loss": 1.0})
    make_run("silent", seed=3)
    make_run("diverged", seed=4, figures={"loss": float("nan")})
    runs = by_name(collect(tmp_path / "runs")[1])
    assert runs["whole"].state == DONE
    for name in ("silent", "diverged"):
        assert runs[name].state == FAILED
        assert runs[name].error == "no finite figure of validation"
        assert runs[name].diverged


@pytest.mark.parametrize(
    ("file", "content", "error"),
    [
        ("result.json", "{", "result.json: not json"),
        ("result.json", "[1]", "result.json: expected names with values, got list"),
        ("result.json", "{}", "figures: expected numbers by name, got NoneType"),
        ("result.json", '{"figures": {"mcd_db": NaN}}', "no finite figure"),
        ("result.json", '{"figures": {"mcd_db": 1}, "cost": 3}', "cost: expected numbers by name"),
        ("result.json", '{"figures": {"mcd_db": 1e200, "loss": null}}', "no finite figure"),
        ("result.json", f'{{"figures": {{"mcd_db": 1{"0" * 400}}}}}', "too large"),
        ("result.json", None, "result.json"),
        ("config.yaml", "a: [", "config.yaml: not yaml"),
        ("config.yaml", "- a", "config.yaml: expected names with values, got list"),
        ("config.yaml", b"\xff\xfe\x00", "can't decode"),
    ],
)
def test_broken_run_is_listed_with_its_reason(
    make_ablation: MakeAblation, file: str, content: str | bytes | None, error: str
) -> None:
    folder = make_ablation({"highway": [{"mcd_db": 5.0}, {"mcd_db": 5.5}]})
    broken = folder / "highway/seed-2" / file
    broken.unlink()
    if content is not None:
        broken.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = compare(folder)
    assert [run.name for run in found.unfinished] == ["highway/seed-2"]
    assert error in found.unfinished[0].error
    assert "\n" not in found.unfinished[0].error
    assert found.variants[0].seeds == [1]


def test_wrong_types_in_settings_and_times_are_ignored(make_ablation: MakeAblation) -> None:
    folder = make_ablation({"highway": [{"mcd_db": 5.0}]})
    run = folder / "highway/seed-1"
    (run / "config.yaml").write_text("{cbhg: 3, train: [1], depth: deep, recipe: [1]}")
    result = json.loads((run / "result.json").read_text()) | {"minutes": "2", "steps": "many"}
    (run / "result.json").write_text(json.dumps(result))
    assert compare(folder).runs[0].minutes is None
    (folder / "ablation.json").unlink()
    assert [run.state for run in compare(folder).runs] == [DONE]


def test_broken_run_folders_are_listed(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("good", figures={"loss": 1.0})
    (make_run("bad", seed=1, figures={"loss": 1.0}) / "config.yaml").write_text("}{")
    found = compare(tmp_path / "runs")
    assert {run.name for run in found.unfinished} == {"bad"}
    assert [variant.name for variant in found.variants] == ["highway", "bad"]


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({}, "expected the plan of an ablation"),
        ({"run": "../other", "variant": "x", "seed": 1}, "expected runs inside the folder"),
        ({"run": "x", "variant": "x", "seed": "?"}, "expected the plan of an ablation"),
    ],
)
def test_plan_with_a_broken_entry_is_refused(
    make_ablation: MakeAblation, entry: dict[str, object], error: str
) -> None:
    folder = make_ablation({"highway": [{"mcd_db": 5.0}]})
    plan = json.loads((folder / "ablation.json").read_text())
    plan["runs"].append(entry)
    (folder / "ablation.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match=error):
        compare(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"runs": 3}', '{"runs": [3]}'])
def test_broken_plan_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "ablation.json").write_text(content)
    with pytest.raises(ValueError, match=r"ablation\.json"):
        collect(tmp_path)


def test_folder_without_runs_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=rf"no runs in '{folder}': expected"):
            collect(folder)


def test_runs_of_several_recipes_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", figures={"loss": 1.0})
    make_run("b", figures={"loss": 1.0}, config={"recipe": "ljspeech"})
    with pytest.raises(ValueError, match="got fsdd, ljspeech"):
        collect(tmp_path / "runs")


@pytest.mark.hostile
@pytest.mark.parametrize(
    "change",
    [
        {"looks": 0},
        {"looks": 10**400},
        {"margin": "a"},
        {"margin": float("nan")},
        {"overrides": [1]},
        {"overrides": None},
        {"recipe": [1]},
    ],
)
def test_plans_whose_fields_cannot_be_are_refused(
    make_ablation: MakeAblation, change: dict[str, object]
) -> None:
    folder = make_ablation({"highway": [{"mcd_db": 5.0}]})
    values = json.loads((folder / "ablation.json").read_text())
    (folder / "ablation.json").write_text(json.dumps(values | change))
    with pytest.raises(ValueError, match="expected the plan of an ablation"):
        collect(folder)
