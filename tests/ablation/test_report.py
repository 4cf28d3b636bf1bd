"""The report is one file that asks nothing of the network and runs nothing; the board is readable
by TensorBoard.
"""

import re
import xml.etree.ElementTree as ElementTree
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from tacoskip.ablation import plots
from tacoskip.ablation.board import write_board
from tacoskip.ablation.compare import compare
from tacoskip.ablation.report import write_report

from .conftest import MakeAblation

EVIL = '<script>alert("1")</script> $\\frac{$ &'
VOID = {"meta", "img"}


class Page(HTMLParser):
    """What a page is made of, and whether its elements close in order."""

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


def test_the_report_is_whole_and_needs_nothing_else(page: Page) -> None:
    assert page.open == []
    assert page.headings == 8
    assert page.links
    assert all(link.startswith("data:image/") for link in page.links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    for words in ("A/A check: highway@aa", "loss is not finite", "noise floor", "cannot tell"):
        assert words in page.words


def test_every_picture_is_a_picture(page: Page) -> None:
    kinds = []
    for link in page.links:
        kind, _, data = link.partition(";base64,")
        kinds.append(kind)
        if kind == "data:image/svg+xml":
            assert ElementTree.fromstring(b64decode(data)).tag.endswith("svg")
        else:
            assert b64decode(data).startswith(b"\x89PNG")
    # 2 forests, 2 costs, 3 variants' curves, gradient flow; an alignment each
    assert (kinds.count("data:image/svg+xml"), kinds.count("data:image/png")) == (8, 3)


def test_text_from_files_is_only_text(make_ablation: MakeAblation, tmp_path: Path) -> None:
    many = variants(["highway", EVIL, f"{EVIL}@aa"]) | {f"gone {EVIL}": [None]}
    found = compare(make_ablation(many, recipe=EVIL, overrides=[EVIL]))
    page = read(write_report(found, tmp_path / "report.html"))
    assert "script" not in page.tags
    assert page.words.count(EVIL) > 5
    for link in page.links:
        if "svg" in link:
            ElementTree.fromstring(b64decode(link.partition(",")[2]))
    write_board(found, tmp_path / "board")


def test_a_report_of_nothing_but_failures(make_ablation: MakeAblation, tmp_path: Path) -> None:
    page = read(write_report(compare(make_ablation({"highway": [None]})), tmp_path / "r.html"))
    assert page.headings == 2
    assert "loss is not finite" in page.words


def test_a_report_of_one_run(make_ablation: MakeAblation, tmp_path: Path) -> None:
    page = read(write_report(compare(make_ablation(variants(["plain"], 1))), tmp_path / "r.html"))
    assert page.open == []


def test_usual_range_leaves_out_what_lies_far_off() -> None:
    assert plots.usual_range([1.0, 1.2, 0.9, 1.1, 50.0]).tolist() == [0.9, 1.2]
    assert plots.usual_range([1.0, 1.1, 50.0]).tolist() == [1.0, 50.0]
    assert plots.usual_range([1.0, 50.0]).tolist() == [1.0, 50.0]
    assert plots.usual_range([]).tolist() == [0.0, 0.0]


def test_the_board_has_an_entry_a_run_and_groups_by_block(
    make_ablation: MakeAblation, tmp_path: Path
) -> None:
    found = compare(make_ablation(variants(["highway", "plain"]) | {"gone": [None]}))
    for _ in range(2):  # the second replaces the first
        board = write_board(found, tmp_path / "board")
    files = sorted(board.rglob("events.*"))
    folders = {str(file.parent.relative_to(board)) for file in files}
    runs = {f"{name}/seed-{seed}" for name in ("highway", "plain") for seed in (1, 2)}
    assert folders == runs | {"mean-highway", "mean-plain", "."}
    assert len(files) == len(folders)

    one = EventAccumulator(str(board / "plain/seed-2")).Reload()
    data = one.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(data).session_start_info
    assert start.hparams["variant"].string_value == "plain"
    assert (start.hparams["seed"].number_value, start.hparams["depth"].number_value) == (2, 4)
    assert one.Scalars("figure/mcd_db")[0].value == pytest.approx(found.runs[3].figures["mcd_db"])

    curves = EventAccumulator(str(board / "mean-plain")).Reload().Tags()["scalars"]
    layout = EventAccumulator(str(board)).Reload().Tensors("custom_scalars__config__")[0]
    categories = layout_pb2.Layout.FromString(layout.tensor_proto.string_val[0]).category
    assert {one.title for one in categories[1:]} == {"highway", "plain"}
    for chart in categories[0].chart:
        assert chart.margin.series[0].lower in curves
    own = {
        chart.multiline.tag[0] for one in categories for chart in one.chart if chart.multiline.tag
    }
    assert any(re.search(tag, "plain/train/loss") for tag in own)
