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
from tacoskip.data.batches import TrainBatches
from tacoskip.data.clip import Clip
from tacoskip.data.corpora import find_corpus
from tacoskip.data.download import unpack
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.data.settings import DataSettings
from tacoskip.data.utterance import Notes
from tacoskip.text import TextSettings, Tokenizer

pytestmark = pytest.mark.hostile


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
def test_archive_bombs_are_refused(tmp_path, monkeypatch, pack):
    """By their ratio, by the room there is."""
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
    assert "than the disk holds" in refusal(archive, tmp_path)


def test_an_extended_header_that_would_fill_memory(tmp_path):
    headers = {"comment": "x" * 3_000_000}
    archive = tar(
        tmp_path / "x",
        ("a", tarfile.REGTYPE, b"1"),
        format=tarfile.PAX_FORMAT,
        pax_headers=headers,
    )
    assert "cannot unpack" in refusal(archive, tmp_path)


def test_a_folder_may_be_named_again(tmp_path):
    members = [("a", tarfile.DIRTYPE, b""), ("a/b", tarfile.REGTYPE, b"1")]
    members += [("a", tarfile.DIRTYPE, b""), ("a/c", tarfile.REGTYPE, b"1")]
    folder = unpack(tar(tmp_path / "x", *members), tmp_path / "out")
    assert sorted(p.name for p in (folder / "a").iterdir()) == ["b", "c"]


def test_encrypted_zip_is_refused(tmp_path):
    """Encrypted, as its flag says: zipfile has an exception of its own for it."""
    content = bytearray(zipped(tmp_path / "x", ("a", b"1")).read_bytes())
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + place] |= 1
    (tmp_path / "x").write_bytes(content)
    assert "cannot unpack" in refusal(tmp_path / "x", tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.pop("id"),
        lambda row: row.update(id=""),
        lambda row: row.update(speaker="nobody"),
        lambda row: row.update(speaker=["s"]),
        lambda row: row.update(text=None),
        lambda row: row.update(samples=-1),
        lambda row: row.update(samples=1e9),
        lambda row: row.update(samples=True),
        lambda row: row.update(span=[0, 1]),
        lambda row: row.update(span=[0, -1, 5, 5]),
        lambda row: row.update(span="a"),
        lambda row: row.update(file="../secret.flac"),
    ],
)
def test_wrong_manifest_rows_are_refused(folder, change):
    table = folder / "train.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(table.read_bytes()).splitlines()]
    change(rows[1])
    table.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    with pytest.raises(
        CorpusError, match=r"train\.jsonl\.gz: not a manifest of prepare"
    ) as refused:
        PreparedCorpus(folder)
    assert "\n" not in str(refused.value)


def test_a_manifest_names_no_file(folder, tmp_path):
    """An id is no path: the clip's file follows from it, inside the folder."""
    table = folder / "train.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(table.read_bytes()).splitlines()]
    for row, id in zip(rows, ["../../secret", "/etc/passwd", "a/../../b"], strict=False):
        row["id"] = id
    table.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    for clip in PreparedCorpus(folder).train:
        assert Path(clip.source).resolve().parent == (folder / "audio").resolve()


@pytest.mark.parametrize("name", ["audio", "audio/c001.flac"])
def test_audio_that_is_a_link(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorpusError, match=r"the audio of clip 'c0.*' is a link"):
        PreparedCorpus(folder)


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b[:30] + b"\xff" * 9 + b[39:]])
def test_a_damaged_manifest(folder, damage):
    table = folder / "train.jsonl.gz"
    table.write_bytes(damage(table.read_bytes()))
    with pytest.raises(CorpusError, match=r"train\.jsonl\.gz: not a manifest of prepare"):
        PreparedCorpus(folder)


@pytest.mark.parametrize("corpus", ["ljspeech", "folder", "demo"])
def test_a_table_that_is_a_link_out_of_the_corpus(tmp_path, corpus):
    root = tmp_path / "corpus"
    root.mkdir()
    (root / "metadata.csv").symlink_to("/etc/passwd")
    with pytest.raises(
        CorpusError, match=r"cannot read .*metadata\.csv: a path or link that leads"
    ):
        list(find_corpus(corpus).read(root.resolve(), DataSettings(), Notes()))


@pytest.fixture
def batches(folder, make) -> Callable[[], TrainBatches]:
    """Batches of one prepared clip, once `change` has been made to it."""

    def build(change: Callable[[Clip], object] = lambda clip: None) -> TrainBatches:
        opened = PreparedCorpus(folder)
        clip = opened.train[0]
        change(clip)
        data = DataSettings(workers=2, max_batch=4, batch_seconds=10)
        tokenizer = Tokenizer(TextSettings())
        return TrainBatches([clip], data, FrontEnd(make.audio), tokenizer, opened.speakers)

    return build


@pytest.mark.parametrize(
    ("said", "change"),
    [
        ("at 8000 Hz, got 16000 Hz", lambda p: soundfile.write(p, np.zeros(4000), 16000)),
        (r"expected \d+ samples, got 40", lambda p: soundfile.write(p, np.zeros(40), 8000)),
        ("not readable as audio", lambda p: p.write_bytes(b"fLaC" + os.urandom(50))),
        ("not readable as audio", lambda p: p.write_bytes(b"")),
        ("No such file", lambda p: p.unlink()),
    ],
)
def test_a_clip_that_fails_in_a_thread_is_named(batches, said, change):
    loading = batches(lambda clip: change(Path(clip.source)))
    with pytest.raises(CorpusError, match=said) as failed:
        next(loading)
    assert loading.clips[0].id in str(failed.value) and "\n" not in str(failed.value)
    loading.close()


def test_an_exception_of_any_kind_in_a_thread_names_its_clip(batches, monkeypatch):
    def fail(*args: object, **options: object) -> None:
        raise ZeroDivisionError("of all\nthings")

    monkeypatch.setattr("tacoskip.data.loading.Loader._wave", fail)
    loading = batches()
    said = rf"cannot load {loading.clips[0].id}: ZeroDivisionError: of all things"
    with pytest.raises(CorpusError, match=said):
        next(loading)
    loading.close()


def test_manifest_that_is_no_regular_file(folder):
    (folder / "train.jsonl.gz").unlink()
    os.mkfifo(folder / "train.jsonl.gz")
    with pytest.raises(CorpusError, match=r"train\.jsonl\.gz: expected a regular file, got a FIFO"):
        PreparedCorpus(folder)


def test_manifest_of_zeros_is_bounded(folder, monkeypatch):
    (folder / "train.jsonl.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    monkeypatch.setattr("tacoskip.data.prepared.LARGEST_MANIFEST", 1_000_000)
    with pytest.raises(CorpusError, match=r"more than 1,000,000 bytes \(TACOSKIP_LIMITS"):
        PreparedCorpus(folder)
