"""What a report shows of the probes: means over seeds, and nothing of a file that is broken."""

import json
from pathlib import Path

import numpy as np
import pytest

from tacoskip.ablation import depth
from tacoskip.ablation.compare import compare
from tacoskip.ablation.report import write_report

from .conftest import MakeAblation
from .test_report import Page, variants


def probe(folder: Path, name: str, seed: int, **measures: object) -> None:
    text = json.dumps({"step": 40, "places": {"encoder": measures}})
    (folder / name / f"seed-{seed}" / "probes.json").write_text(text)


def test_the_report_shows_depth_and_lesions(make_ablation: MakeAblation, tmp_path: Path) -> None:
    folder = make_ablation(variants(["highway", "plain", "dense"]))
    flow = {"gradient": [1.0, 4.0], "gradient_transform": [1.0, 2.0], "gradient_skip": [0, None]}
    probe(folder, "highway", 1, **flow, lesion=[0.1, None], path_length=[1.5])
    probe(folder, "highway", 2, **flow, lesion=[0.3, None], path_length=[2.5])
    probe(folder, "plain", 1, gradient=[1.0, 100.0], reuse=[[[1.0]]], lesions_left_out="")
    page = Page(write_report(compare(folder), tmp_path / "report.html").read_text())
    assert page.open == []
    assert "By depth" in page.words
    assert "Without one unit" in page.words
    assert page.words.count("2.00") == 1  # the mean path length
    assert sum("svg" in link for link in page.links) == 8 + 2 + 1  # two by depth, one of lesions


def test_means_over_seeds(make_ablation: MakeAblation) -> None:
    folder = make_ablation(variants(["highway"], 3))
    probe(folder, "highway", 1, gradient=[1.0, 2.0, None], lesion=[1.0, None, 0.5])
    probe(folder, "highway", 2, gradient=[100.0, 8.0, None], lesion=[2.0, None, float("nan")])
    probe(folder, "highway", 3, gradient=[1.0])  # of another depth: not of this variant
    found = depth.by_depth(compare(folder), ["gradient", "lesion", "nothing"])
    mine = found["highway"]["encoder"]
    np.testing.assert_allclose(mine["gradient"], [10, 4, np.nan])
    np.testing.assert_allclose(mine["lesion"], [1.5, np.nan, 0.5])


@pytest.mark.parametrize(
    "text", ["", "[]", '{"places": 3}', '{"places": {"encoder": [1]}}', "\x00", '{"step": 1}']
)
def test_a_file_that_says_nothing_is_passed_over(
    make_ablation: MakeAblation, tmp_path: Path, text: str
) -> None:
    folder = make_ablation(variants(["highway"]))
    (folder / "highway" / "seed-1" / "probes.json").write_text(text)
    page = Page(write_report(compare(folder), tmp_path / "report.html").read_text())
    assert "By depth" not in page.words
    assert page.open == []


def test_limits_are_of_what_can_be_drawn() -> None:
    found = {"a": {"encoder": {"gradient": np.array([0.0, np.nan, 2.0, 8.0])}}}
    assert depth.limits(found, "gradient").tolist() == [0.2, 16]
    nothing = {"a": {"encoder": {"gradient": np.array([0.0, np.nan])}}}
    assert depth.limits(nothing, "gradient").tolist() == [0.1, 1.0]
    lesions = {"a": {"encoder": {"lesion": np.array([0.0, -1.0, 1.0, 0.5, 90.0])}}}
    low, high = depth.limits(lesions, "lesion")
    assert -2 < low < -1 < 1 < high < 2
