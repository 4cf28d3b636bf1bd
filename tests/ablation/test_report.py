"""The report is one file that loads nothing from elsewhere and runs nothing."""

import json
import xml.etree.ElementTree as ElementTree
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tacoskip.ablation import plots, stacks
from tacoskip.ablation.compare import compare
from tacoskip.ablation.report import write_report

from .conftest import MakeAblation

EVIL = '<script>alert("1")</script> $\\frac{$ &'
VOID = {"meta", "img"}


class Page(HTMLParser):
    """The elements of a page; they must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    @property
    def headings(self) -> int:
        return self.tags.count("h2")


def variants(names: list[str], seeds: int = 2) -> dict[str, list[dict[str, float] | None]]:
    random = np.random.default_rng(0)
    return {
        name: [
            {"mcd_db": 5 + number + random.normal(), "alignment": random.random()}
            for _ in range(seeds)
        ]
        for number, name in enumerate(names)
    }


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def page(make_ablation: MakeAblation, tmp_path: Path) -> Page:
    many = variants(["highway", "plain", "highway@aa"]) | {"gone": [None]}
    return read(write_report(compare(make_ablation(many)), tmp_path / "report.html"))


def test_report_is_well_formed_and_self_contained(page: Page) -> None:
    assert page.open == []
    assert page.headings == 7
    assert page.links
    assert all(link.startswith("data:image/") for link in page.links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    for words in (
        "A/A check: highway@aa and highway in mcd_db",
        "loss is not finite",
        "noise floor",
        "cannot tell",
    ):
        assert words in page.words


def test_every_picture_can_be_decoded(page: Page) -> None:
    kinds = []
    for link in page.links:
        kind, _, data = link.partition(";base64,")
        kinds.append(kind)
        if kind == "data:image/svg+xml":
            assert ElementTree.fromstring(b64decode(data)).tag.endswith("svg")
        else:
            assert b64decode(data).startswith(b"\x89PNG")
    # 2 forests, 2 costs, 3 variants' curves; an alignment each
    assert (kinds.count("data:image/svg+xml"), kinds.count("data:image/png")) == (7, 3)


def test_text_from_files_is_escaped(make_ablation: MakeAblation, tmp_path: Path) -> None:
    many = variants(["highway", EVIL, f"{EVIL}@aa"]) | {f"gone {EVIL}": [None]}
    found = compare(make_ablation(many, recipe=EVIL, overrides=[EVIL]))
    page = read(write_report(found, tmp_path / "report.html"))
    assert "script" not in page.tags
    assert page.words.count(EVIL) > 5
    for link in page.links:
        if "svg" in link:
            ElementTree.fromstring(b64decode(link.partition(",")[2]))


def test_report_without_finished_runs(make_ablation: MakeAblation, tmp_path: Path) -> None:
    page = read(write_report(compare(make_ablation({"highway": [None]})), tmp_path / "r.html"))
    assert page.headings == 2
    assert "loss is not finite" in page.words


def test_report_of_one_run(make_ablation: MakeAblation, tmp_path: Path) -> None:
    page = read(write_report(compare(make_ablation(variants(["plain"], 1))), tmp_path / "r.html"))
    assert page.open == []


def test_usual_range_leaves_out_outliers() -> None:
    assert plots.usual_range([1.0, 1.2, 0.9, 1.1, 50.0]).tolist() == [0.9, 1.2]
    assert plots.usual_range([1.0, 1.1, 50.0]).tolist() == [1.0, 50.0]
    assert plots.usual_range([1.0, 50.0]).tolist() == [1.0, 50.0]
    assert plots.usual_range([]).tolist() == [0.0, 0.0]


def texts(svg: bytes) -> list[str]:
    """Return the texts in a picture."""
    return [one.text or "" for one in ElementTree.fromstring(svg).iter() if one.tag[-4:] == "text"]


def test_numbers_in_pictures_are_rounded_not_cut(make_ablation: MakeAblation) -> None:
    many = {"highway": [{"loss": 1.0}, {"loss": 1.01}, {"loss": 0.99}]}
    many["concat"] = [{"loss": 1.0779}, {"loss": 1.0883}, {"loss": 1.0681}]
    found = compare(make_ablation(many))
    expected = found.text("loss", 0.0781, "+")
    assert expected == "+0.078"
    assert any(text.startswith(f"{expected}  ") for text in texts(plots.forest(found, "loss")))
    picture = '<svg x="1.23456" y="9.999"><text>1.23456</text></svg>'
    assert plots.compact(picture) == '<svg x="1.23" y="10.00"><text>1.23456</text></svg>'


def probe(folder: Path, name: str, seed: int, **measures: object) -> None:
    text = json.dumps({"step": 40, "stacks": {"encoder": measures}})
    (folder / name / f"seed-{seed}" / "probes.json").write_text(text)


def test_report_shows_the_probes_of_the_stacks(make_ablation: MakeAblation, tmp_path: Path) -> None:
    folder = make_ablation(variants(["highway", "plain", "dense"]))
    probe(folder, "highway", 1, gradient=[1.0, 4.0], gradient_skip=[0, None], lesion=[0.1, None])
    probe(folder, "highway", 2, gradient=[1.0, 4.0], lesion=[0.3, None])
    probe(folder, "plain", 1, gradient=[1.0, 100.0, 2.0], reuse=[[[1.0]]], lesions_left_out="")
    page = read(write_report(compare(folder), tmp_path / "report.html"))
    assert page.open == []
    for title in ("gradient norm at the unit's input", "rise of the validation loss"):
        assert title in page.words
    found = stacks.by_variant(compare(folder))
    (picture,) = (v for k, v in stacks.stack_maps(compare(folder)).items() if "input" in k)
    assert {"highway", "plain", "encoder"} <= set(texts(picture))
    assert "dense" not in found


def test_probes_are_averaged_over_seeds(make_ablation: MakeAblation) -> None:
    folder = make_ablation(variants(["highway"], 3))
    probe(folder, "highway", 1, gradient=[1.0, 2.0, None], lesion=[1.0, None, 0.5])
    probe(folder, "highway", 2, gradient=[100.0, 8.0, None], lesion=[2.0, None, float("nan")])
    probe(folder, "highway", 3, gradient=[1.0])  # of another depth: not of this variant
    measures = stacks.by_variant(compare(folder))["highway"]["encoder"]
    np.testing.assert_allclose(measures["gradient"], [10, 4, np.nan])
    np.testing.assert_allclose(measures["lesion"], [1.5, np.nan, 0.5])


@pytest.mark.parametrize(
    "text", ["", "[]", '{"stacks": 3}', '{"stacks": {"encoder": [1]}}', "\x00", '{"step": 1}']
)
def test_broken_probes_are_left_out(make_ablation: MakeAblation, text: str) -> None:
    folder = make_ablation(variants(["highway"]))
    (folder / "highway" / "seed-1" / "probes.json").write_text(text)
    assert stacks.stack_maps(compare(folder)) == {}
