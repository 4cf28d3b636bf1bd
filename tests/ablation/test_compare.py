"""A comparison as a whole: verdicts, warnings, JSON and the tables of a terminal."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from tacoskip.ablation.compare import Comparison, compare
from tacoskip.ablation.tables import Table, overview

from .conftest import MakeAblation


def figures(*values: float) -> list[dict[str, float] | None]:
    return [{"mcd_db": value, "alignment": 1 / value} for value in values]


VARIANTS = {
    "highway": figures(5.0, 5.2, 5.1, 5.3),
    "plain": figures(9.25, 9.0, 9.3, 9.1),
    "residual": figures(5.1, 5.15, 5.0, 5.4),
    "highway@aa": figures(5.15, 5.0, 5.3, 5.2),
}


def printed(comparison: Comparison, width: int = 250) -> str:
    console = Console(width=width, record=True, file=sys.stderr)
    console.print(overview(comparison))
    return console.export_text()


def test_verdicts_of_all_figures(make_ablation: MakeAblation) -> None:
    found = compare(make_ablation(VARIANTS))
    verdicts = {
        (figure, name): difference.verdict
        for figure, analysis in found.analyses.items()
        for name, difference in analysis.differences.items()
    }
    for figure in ("mcd_db", "alignment"):
        assert verdicts[figure, "plain"] == "worse"
        assert verdicts[figure, "residual"] == verdicts[figure, "highway@aa"] == "cannot tell"
        assert (figure, "highway") not in verdicts
    assert found.figures == ["mcd_db", "alignment"]
    assert found.variants[-1].name == "plain"
    assert found.variants[-1].parameters_percent == pytest.approx(0.1)
    assert found.warnings == []


def test_baseline_and_figure_can_be_chosen(make_ablation: MakeAblation) -> None:
    found = compare(make_ablation(VARIANTS), baseline="plain", figure="alignment")
    assert found.main == "alignment"
    assert found.analyses["alignment"].differences["residual"].verdict == "better"
    assert found.analyses["alignment"].differences["highway@aa"].reference == "highway"


def test_unknown_baseline_or_figure_names_the_nearest(make_ablation: MakeAblation) -> None:
    folder = make_ablation(VARIANTS)
    with pytest.raises(ValueError, match=r"no baseline 'plan'.*'plain'"):
        compare(folder, baseline="plan")
    with pytest.raises(ValueError, match=r"no figure 'mcd'.*mcd_db"):
        compare(folder, figure="mcd")


def test_json_has_plain_values_only(make_ablation: MakeAblation) -> None:
    variants = VARIANTS | {"lost": [None, None], "once": figures(5.0)}
    values = compare(make_ablation(variants, overrides=["train.max_steps=40"])).to_json()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    found = values["figures"]["mcd_db"]
    assert found["differences"]["plain"]["verdict"] == "worse"
    assert found["differences"]["lost"]["verdict"] == "unstable"
    assert found["summaries"]["plain"]["mean"] == pytest.approx(9.1625)
    assert found["sd"] > 0
    assert values["overrides"] == ["train.max_steps=40"]
    assert [run["error"] for run in values["runs"]].count("loss is not finite") == 2


def test_warnings_name_missing_and_unusual_runs(make_ablation: MakeAblation) -> None:
    variants = VARIANTS | {
        "highway@aa": figures(9.0, 9.2, 9.1, 9.3),
        "dense": [*figures(5.0, 5.2), None, {"alignment": 0.2}],
        "wild": figures(1.0, 90.0, 7.0, 30.0),
    }
    folder = make_ablation(variants)
    result = folder / "wild/seed-1/result.json"
    result.write_text(result.read_text().replace('"steps": 40', '"steps": 30'))
    warnings = "\n".join(compare(folder).warnings)
    assert "dense has 3 finished runs of 4" in warnings
    assert "dense: mcd_db is missing or not finite in 1 runs" in warnings
    assert "runs end at different steps, 30 to 40" in warnings


def test_aa_variant_with_a_verdict_is_a_warning(make_ablation: MakeAblation) -> None:
    found = compare(make_ablation(VARIANTS | {"highway@aa": figures(9.0, 9.2, 9.1, 9.3)}))
    assert found.warnings[0].startswith("A/A check failed: highway@aa is worse in mcd_db")


def test_one_seed_gives_no_verdict(make_ablation: MakeAblation) -> None:
    found = compare(make_ablation({name: values[:1] for name, values in VARIANTS.items()}))
    assert found.warnings == ["one seed per variant: a difference may be chance"]
    for analysis in found.analyses.values():
        assert {one.verdict for one in analysis.differences.values()} == {"cannot tell"}
    assert "it needs two seeds" in printed(found)


def test_failed_baseline_leaves_means_without_differences(make_ablation: MakeAblation) -> None:
    found = compare(make_ablation(VARIANTS | {"highway": [None]}))
    assert found.warnings[0].startswith("the baseline highway has no finished run")
    assert found.analyses["mcd_db"].differences == {}
    assert found.analyses["mcd_db"].summaries["plain"].n == 4
    assert "highway" in printed(found)


def test_ablation_without_finished_runs_is_listed(make_ablation: MakeAblation) -> None:
    found = compare(make_ablation({"highway": [None], "plain": [None]}))
    assert (found.main, found.figures, len(found.unfinished)) == ("", [], 2)
    assert "plain" in printed(found)
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.hostile
def test_overview_has_verdicts_and_costs_and_reads_no_markup(make_ablation: MakeAblation) -> None:
    text = printed(compare(make_ablation(VARIANTS | {"[red]x\x1b]0;": figures(5.0)})))
    assert "[red]x?]0;" in text and "\x1b" not in text
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("plain")]
    assert len(rows) == 3  # two figures, costs
    assert {"worse", "+4.01"} <= set(rows[0])
    assert rows[2][:4] == ["plain", "1,001", "(+0.1", "%)"]
    assert "; 4 seeds find a difference of" in text


def test_80_columns_keep_names_and_whole_numbers(
    make_ablation: MakeAblation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = "nonlocal_gaussian,skip=deactivable,topology=reversible,depth=64"
    comparison = compare(make_ablation(VARIANTS | {long: figures(5.0, 5.1, 5.2, 5.3)}))
    console = Console(record=True, file=sys.stderr)
    console.print(overview(comparison))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "..." not in text
    cells = ["nonlocal_gaussian,", "skip=deactivable,", "depth=64", "highway@aa"]
    for cell in [*cells, "9.16 ± 0.14", "+4.01", "1,001 (+0.1 %)"]:
        assert cell in text, cell


def test_name_wider_than_the_terminal_is_folded_not_cut() -> None:
    name = "x" * 50
    console = Console(width=40, record=True, file=sys.stderr)
    console.print(Table(["variant", "n", "seeds"], [[name, "1", "3"]]))
    assert console.export_text().count("x") == 2 * len(name)


def test_values_have_two_digits_of_their_noise(make_ablation: MakeAblation) -> None:
    found = compare(make_ablation(VARIANTS))
    assert 0.1 < (found.analyses["mcd_db"].sd or 0) < 1
    assert found.text("mcd_db", math.pi) == "3.14"
    assert found.text("mcd_db", -0.0001) == "0.00"
    assert found.text("mcd_db", None) == "-"


def test_comparing_loads_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, tacoskip.ablation.tables\n"
        "print([name for name in ('torch', 'matplotlib', 'tensorboard') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_planned_runs_are_counted_not_listed(make_ablation: MakeAblation) -> None:
    folder = make_ablation({"highway": figures(5.0, 5.2), "plain": [*figures(5.1), None]})
    plan = json.loads((folder / "ablation.json").read_text())
    plan["runs"][1]["state"] = "planned"
    (folder / "ablation.json").write_text(json.dumps(plan))
    lines = compare(folder).left_out
    assert lines == ["plain/seed-2: loss is not finite", "runs that have not ended: 1"]


@pytest.mark.hostile
def test_overview_has_no_control_characters(make_ablation: MakeAblation) -> None:
    found = compare(make_ablation({"high\x1b[31mway": figures(5.0), "plain\x07": figures(5.1)}))
    shown = printed(replace(found, recipe="\x1b[2J"))
    assert "high?[31mway" in shown and not {"\x1b", "\x07"} & set(shown)
