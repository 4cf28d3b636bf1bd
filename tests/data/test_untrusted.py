"""Corpora of strangers: archives that bite, manifests and tables that reach outside, bad clips."""

import gzip
import io
import json
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tacoskip.audio import FrontEnd
from tacoskip.data import TrainBatches
from tacoskip.data.corpora import READERS
from tacoskip.data.corpus import Corpus
from tacoskip.data.download import unpack
from tacoskip.data.errors import CorpusError
from tacoskip.data.journal import Journal
from tacoskip.data.settings import DataSettings
from tacoskip.data.utterance import Notes
from tacoskip.text import TextSettings, Tokenizer


def tar(path: Path, *members: tuple[str, bytes, bytes], **options: Any) -> Path:
    """Members are (name, type, content); a link's content is its target."""
    with tarfile.open(path, "w:gz", **options) as file:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = content.decode()
            else:
                info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, *members: tuple[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return path


def refusal(archive: Path, tmp_path: Path) -> str:
    """The one line; nothing is left of it."""
    with pytest.raises(CorpusError) as refused:
        unpack(archive, tmp_path / "in" / "out")
    assert not list((tmp_path / "in").iterdir()) and "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
def test_links_and_devices_in_a_zip(tmp_path, kind):
    archive = zipped(tmp_path / "x", ("a", b"/etc/passwd"), mode=kind | 0o777)
    assert "holds a link or device: 'a'" in refusal(archive, tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_that_a_later_member_is_written_through(tmp_path, kind):
    (tmp_path / "outside").mkdir()
    members = [("a", kind, b"../../outside"), ("a/b", tarfile.REGTYPE, b"bad")]
    assert "holds a link or device: 'a'" in refusal(tar(tmp_path / "x", *members), tmp_path)
    assert not list((tmp_path / "outside").iterdir())


def test_a_sparse_file(tmp_path):
    with tarfile.open(tmp_path / "x", "w") as file:
        info = tarfile.TarInfo("a")
        info.type = tarfile.GNUTYPE_SPARSE
        file.addfile(info)
    assert "holds a link or device: 'a'" in refusal(tmp_path / "x", tmp_path)


@pytest.mark.parametrize("pack", ["tar", "zip"])
def test_bombs(tmp_path, monkeypatch, pack):
    """By their ratio, by the room there is, by their number."""
    zeros = bytes(3_000_000)
    if pack == "tar":
        archive = tar(tmp_path / "x", ("a", tarfile.REGTYPE, zeros), ("b", tarfile.REGTYPE, b"1"))
    else:
        archive = zipped(tmp_path / "x", ("a", zeros), ("b", b"1"))
    assert unpack(archive, tmp_path / "small").is_dir(), "so little harms nobody"
    monkeypatch.setattr("tacoskip.data.download.SMALL", 1_000_000)
    assert "unpacks to far more than its size" in refusal(archive, tmp_path)
    monkeypatch.undo()
    usage = type("Usage", (), {"free": 2_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert "has free: 'a'" in refusal(archive, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("tacoskip.data.download.MEMBERS", 1)
    assert "holds more than 1 members: 'b'" in refusal(archive, tmp_path)


def test_an_extended_header_that_would_fill_memory(tmp_path):
    headers = {"comment": "x" * 3_000_000}
    archive = tar(
        tmp_path / "x",
        ("a", tarfile.REGTYPE, b"1"),
        format=tarfile.PAX_FORMAT,
        pax_headers=headers,
    )
    assert "cannot unpack" in refusal(archive, tmp_path)


@pytest.mark.parametrize("pack", ["tar", "zip"])
@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a", "a"),
        ("a/B", "A/b"),
        ("caf\u00e9", "cafe\u0301"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("ﬁ", "fi"),
    ],
)
def test_members_in_each_others_place(tmp_path, pack, one, two):
    if pack == "tar":
        members = [(name, tarfile.REGTYPE, b"1") for name in (one, two)]
        archive = tar(tmp_path / "x", *members)
    else:
        with pytest.warns(UserWarning, match="Duplicate") if one == two else _nothing():
            archive = zipped(tmp_path / "x", (one, b"1"), (two, b"1"))
    assert "holds two members of one name" in refusal(archive, tmp_path)


class _nothing:  # noqa: N801
    def __enter__(self) -> None: ...

    def __exit__(self, *args: object) -> None: ...


def test_a_folder_may_be_named_again(tmp_path):
    members = [("a", tarfile.DIRTYPE, b""), ("a/b", tarfile.REGTYPE, b"1")]
    members += [("a", tarfile.DIRTYPE, b""), ("a/c", tarfile.REGTYPE, b"1")]
    folder = unpack(tar(tmp_path / "x", *members), tmp_path / "out")
    assert sorted(p.name for p in (folder / "a").iterdir()) == ["b", "c"]


def test_a_zip_that_nobody_can_open(tmp_path):
    """Encrypted, as its flag says: zipfile has an exception of its own for it."""
    content = bytearray(zipped(tmp_path / "x", ("a", b"1")).read_bytes())
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + place] |= 1
    (tmp_path / "x").write_bytes(content)
    assert "cannot unpack" in refusal(tmp_path / "x", tmp_path)


Change = Callable[[dict[str, Any]], object]


def source(cut: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = cut["recording"]["sources"][0]
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cut: source(cut).update(source="../secret.flac"), "reaches outside"),
        (lambda cut: source(cut).update(source="/etc/passwd"), "reaches outside"),
        (lambda cut: source(cut).update(type="command", source="touch executed"), "reaches"),
        (lambda cut: source(cut).update(type="url", source="http://127.0.0.1/a"), "reaches"),
        (lambda cut: source(cut).update(source="audio/link.flac"), "reaches outside"),
        (lambda cut: source(cut).update(source="elsewhere/secret.flac"), "reaches outside"),
        (lambda cut: cut["recording"]["sources"].append(source(cut)), "no sound manifest"),
        (lambda cut: cut.update(supervisions=[]), "no sound manifest"),
        (lambda cut: cut["supervisions"][0].update(speaker="nobody"), "no sound manifest"),
        (lambda cut: cut["supervisions"][0].update(custom={}), "no sound manifest"),
        (lambda cut: cut.update(duration=-1.0), "no sound manifest"),
        (lambda cut: cut.update(duration=float("inf")), "no sound manifest"),
    ],
)
def test_a_manifest_of_a_stranger(corpus, run, tmp_path, change, said):
    folder = run(corpus).dir
    (tmp_path / "secret.flac").touch()
    (folder / "audio" / "link.flac").symlink_to(tmp_path / "secret.flac")
    (folder / "elsewhere").symlink_to(tmp_path)
    table = folder / "train.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(table.read_bytes()).splitlines()]
    change(rows[1])
    table.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    with pytest.raises(CorpusError, match=said) as refused:
        Corpus(folder)
    assert rows[1]["id"] in str(refused.value) and "\n" not in str(refused.value)
    assert not Path("executed").exists()


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b[:30] + b"\xff" * 9 + b[39:]])
def test_a_damaged_manifest(corpus, run, damage):
    folder = run(corpus).dir
    table = folder / "train.jsonl.gz"
    table.write_bytes(damage(table.read_bytes()))
    with pytest.raises(CorpusError, match="no prepared corpus in"):
        Corpus(folder)


@pytest.mark.parametrize("corpus", ["ljspeech", "folder", "demo"])
def test_a_table_that_is_a_link_out_of_the_corpus(tmp_path, corpus):
    root = tmp_path / "corpus"
    root.mkdir()
    (root / "metadata.csv").symlink_to("/etc/passwd")
    with pytest.raises(
        CorpusError, match=r"cannot read .*metadata\.csv: a path or link that leads"
    ):
        list(READERS[corpus](root, "", Notes()))


def test_a_journal_names_no_file_of_its_own_choice(corpus, run):
    folder = run(corpus).dir
    journal = folder / "clips.jsonl"
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    for row in rows[:2]:
        row["file"] = "../../secret.flac"
    del rows[2]["seconds"]
    rows[3]["samples"] = -1
    lines = [json.dumps(row) for row in rows] + ["[" * 5000, "3", "{}", '{"id": 4}']
    journal.write_text("\n".join(lines))
    report = run(corpus)
    assert report.kept == 24 and report.done == 2, "the two that are no results"
    assert b"secret" not in gzip.decompress((folder / "train.jsonl.gz").read_bytes())
    Journal(journal).close()


@pytest.fixture
def batches(corpus, run, make) -> Callable[[], TrainBatches]:
    """Batches of a prepared corpus whose first training clip is `first`."""
    folder = run(corpus).dir

    def build(change: Callable[[Any], object] = lambda cut: None) -> TrainBatches:
        found = Corpus(folder)
        cut = next(iter(found.train))
        change(cut)
        data = DataSettings(workers=2, max_batch=4, batch_seconds=10)
        tokenizer = Tokenizer(TextSettings())
        return TrainBatches([cut], data, FrontEnd(make.audio), tokenizer, found.speakers)

    return build


def test_a_clip_that_fails_in_a_thread_is_named(batches, monkeypatch):
    """Vanished, unreadable, of another rate, of no text, or whatever else a thread may meet."""

    def path(cut: Any) -> Path:
        return Path(cut.recording.sources[0].source)

    def other_rate(cut: Any) -> None:
        soundfile.write(path(cut), np.zeros(4000), 16000)

    changes: dict[str, Callable[[Any], object]] = {
        "at 8000 Hz, got 16000 Hz": other_rate,
        "not readable as audio": lambda cut: path(cut).write_bytes(b"fLaC" + os.urandom(50)),
        "the file is empty": lambda cut: path(cut).write_bytes(b""),
        "no such file": lambda cut: path(cut).unlink(),
        "nothing to speak": lambda cut: cut.supervisions[0].custom.update(normalized="..."),
    }
    for said, change in changes.items():
        if said == "nothing to speak":  # the file is gone by now
            monkeypatch.setattr(
                "tacoskip.data.loading.ClipFeatures._wave",
                lambda self, cut, keep: np.zeros(800, np.float32),
            )
        loading = batches(change)
        with pytest.raises(CorpusError, match=said) as failed:
            next(loading)
        assert loading.cuts[0].id in str(failed.value) and "\n" not in str(failed.value)
        loading.close()


def test_an_exception_of_any_kind_in_a_thread_names_its_clip(batches, monkeypatch):
    def fail(self: Any, cut: Any, keep: bool) -> None:
        raise ZeroDivisionError("of all\nthings")

    monkeypatch.setattr("tacoskip.data.loading.ClipFeatures._wave", fail)
    loading = batches()
    said = rf"cannot load {loading.cuts[0].id}: ZeroDivisionError: of all things"
    with pytest.raises(CorpusError, match=said):
        next(loading)
    loading.close()
