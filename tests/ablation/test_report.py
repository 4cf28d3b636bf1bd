"""The report is one file that loads nothing from elsewhere and runs nothing."""

import xml.etree.ElementTree as ElementTree
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tacoskip.ablation.compare import compare
from tacoskip.ablation.report import forest, write_report

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


@pytest.mark.hostile
def test_report_is_written_through_no_link(make_ablation: MakeAblation, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "report.html").symlink_to(precious)
    write_report(compare(make_ablation(variants(["highway"]))), tmp_path / "report.html")
    assert precious.read_text() == "precious" and not (tmp_path / "report.html").is_symlink()


def test_report_is_well_formed_and_self_contained(page: Page) -> None:
    assert page.open == []
    assert page.headings == 4
    assert page.links
    assert all(link.startswith("data:image/") for link in page.links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    for words in (
        "loss is not finite",
        "cannot tell or same",
        "cannot tell",
    ):
        assert words in page.words


def test_every_picture_can_be_decoded(page: Page) -> None:
    assert len(page.links) == 2
    for link in page.links:
        kind, _, data = link.partition(";base64,")
        assert kind == "data:image/svg+xml"
        assert ElementTree.fromstring(b64decode(data)).tag.endswith("svg")


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


def test_report_of_13_variants_at_two_depths_is_small(
    make_ablation: MakeAblation, tmp_path: Path
) -> None:
    names = [
        f"attention_residual-{number},depth={depth}" for number in range(13) for depth in (4, 16)
    ]
    random = np.random.default_rng(0)
    figures = ("loss", "alignment", "mcd_db", "stop_failures", "cer_by_asr", "wer_by_asr")
    many = {
        name: [{figure: random.random() for figure in figures} for _ in range(4)]
        for name in ["highway", *names]
    }
    path = write_report(compare(make_ablation(many)), tmp_path / "report.html")
    assert path.stat().st_size < 1.5e6
    assert (tmp_path / "forest.png").read_bytes().startswith(b"\x89PNG")
    assert "attention_residual-12,depth=16" in texts((tmp_path / "forest.svg").read_bytes())


def test_ladder_says_which_rung_a_block_moves(make_ablation: MakeAblation, tmp_path: Path) -> None:
    def runs(*forced: float) -> list[dict[str, float] | None]:
        own = {"wer_recording": 0.05, "wer_copy_synthesis": 0.06}
        moved = [
            {"loss": one, "wer_teacher_forced": one, "wer_by_asr": one + 0.3} for one in forced
        ]
        return [own | one for one in moved]

    found = compare(
        make_ablation({"highway": runs(0.1, 0.11, 0.12), "plain": runs(0.6, 0.61, 0.62)})
    )
    assert found.constants == {"wer_recording": 0.05, "wer_copy_synthesis": 0.06}
    page = read(write_report(found, tmp_path / "report.html"))
    assert "61.0 % (worse)" in page.words and "5.0 %" in page.words
    assert "equal in all runs" in page.words


def texts(svg: bytes) -> list[str]:
    """Return the texts in a picture."""
    return [one.text or "" for one in ElementTree.fromstring(svg).iter() if one.tag[-4:] == "text"]


def test_numbers_in_pictures_are_rounded_not_cut(make_ablation: MakeAblation) -> None:
    many = {"highway": [{"loss": 1.0}, {"loss": 1.01}, {"loss": 0.99}]}
    many["concat"] = [{"loss": 1.0779}, {"loss": 1.0681}, {"loss": 1.0883}]
    found = compare(make_ablation(many))
    expected = found.text("loss", 0.0781, "+")
    assert expected == "+0.078"
    assert any(text.startswith(f"{expected}  ") for text in texts(forest(found, "loss")))
