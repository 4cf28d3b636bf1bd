"""Downloads from a local server: whole, broken off, resumed, changed, wrong; archives that bite."""

import hashlib
import io
import json
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tacoskip.audio import AudioSettings
from tacoskip.data import sources
from tacoskip.data.download import fetch, unpack
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepare import prepare
from tacoskip.data.settings import DataSettings
from tacoskip.text import TextSettings

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; breaks off after `limits` bytes, one limit a request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/a.bin": CONTENT}
        self.limits: list[int] = []
        self.ranges = True
        self.etag = '"one"'
        self.requests: list[str | None] = []

    def url(self, name: str = "a.bin") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append(asked)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        current = self.headers.get("If-Range") in (None, self.server.etag)
        if asked and self.server.ranges and current:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        limit = self.server.limits.pop(0) if self.server.limits else len(content)
        self.wfile.write(content[start : start + limit])

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_whole_file(server, tmp_path):
    seen: list[tuple[int, int, str]] = []
    path = fetch(server.url(), tmp_path / "a.bin", SHA256, lambda *args: seen.append(args))
    assert path.read_bytes() == CONTENT and [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert (300_000, 300_000, "download a.bin (bytes)") in seen
    fetch(server.url(), path, SHA256)
    assert len(server.requests) == 1  # it is here already


def test_an_interrupted_download_goes_on_where_it_broke_off(server, tmp_path):
    server.limits = [100_000, 50_000]
    fetch(server.url(), tmp_path / "a.bin", SHA256, pause=0)
    assert server.requests == [None, "bytes=100000-", "bytes=150000-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_later_call_goes_on(server, tmp_path):
    server.limits = [1000] * 5
    with pytest.raises(CorpusError, match=r"5,000 bytes.*run again to resume") as error:
        fetch(server.url(), tmp_path / "a.bin", SHA256, pause=0)
    assert "\n" not in str(error.value) and not (tmp_path / "a.bin").exists()
    fetch(server.url(), tmp_path / "a.bin", SHA256, pause=0)
    assert server.requests[-1] == "bytes=5000-"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_ctrl_c_keeps_what_came(server, tmp_path, monkeypatch):
    def interrupt(done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tacoskip.data.download.BLOCK", 65536)
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url(), tmp_path / "a.bin", SHA256, interrupt)
    assert (tmp_path / "a.bin.part").stat().st_size == 65536
    fetch(server.url(), tmp_path / "a.bin", SHA256)
    assert server.requests == [None, "bytes=65536-"]


def test_a_server_without_ranges_sends_it_all_again(server, tmp_path):
    server.ranges, server.limits = False, [1000]
    fetch(server.url(), tmp_path / "a.bin", SHA256, pause=0)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_not_mixed(server, tmp_path):
    server.limits = [1000] * 5
    with pytest.raises(CorpusError):
        fetch(server.url(), tmp_path / "a.bin", pause=0)
    server.files["/a.bin"], server.etag = CONTENT[::-1], '"two"'
    fetch(server.url(), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[::-1]


def test_a_part_that_was_whole_already(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    fetch(server.url(), tmp_path / "a.bin", SHA256, pause=0)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    (tmp_path / "b.bin.part").write_bytes(CONTENT + b"more")
    fetch(server.url(), tmp_path / "b.bin", SHA256, pause=0)
    assert (tmp_path / "b.bin").read_bytes() == CONTENT


def test_wrong_checksum(server, tmp_path):
    server.files["/a.bin"] = b"something else"
    with pytest.raises(CorpusError, match=f"expected sha256 {SHA256}, got .* run again"):
        fetch(server.url(), tmp_path / "a.bin", SHA256)
    assert not list(tmp_path.iterdir())
    server.files["/a.bin"] = CONTENT
    fetch(server.url(), tmp_path / "a.bin", SHA256)
    (tmp_path / "a.bin").write_bytes(b"damaged")
    with pytest.raises(CorpusError, match="expected sha256"):
        fetch(server.url(), tmp_path / "a.bin", SHA256)
    fetch(server.url(), tmp_path / "a.bin", SHA256)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_without_a_published_checksum_the_first_one_counts(server, tmp_path):
    path = fetch(server.url(), tmp_path / "a.bin")
    assert json.loads((tmp_path / "checksums.json").read_text()) == {"a.bin": SHA256}
    path.unlink()
    fetch(server.url(), path)
    path.unlink()
    server.files["/a.bin"] = b"another"
    with pytest.raises(CorpusError, match=f"expected sha256 {SHA256}"):
        fetch(server.url(), path)


def test_nothing_there(server, tmp_path):
    with pytest.raises(CorpusError, match=r"Not Found.*data\.root") as error:
        fetch(server.url("gone.bin"), tmp_path / "gone.bin", pause=0)
    assert len(server.requests) == 1 and "\n" not in str(error.value)
    server.server_close()
    with pytest.raises(CorpusError, match=r"stopped after 0 bytes"):
        fetch("http://127.0.0.1:9/x", tmp_path / "x", pause=0)
    with pytest.raises(CorpusError, match=r"stopped after 0 bytes"):
        fetch("http://nowhere.invalid/x", tmp_path / "x", pause=1e6)  # no second attempt


def test_no_room(server, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(CorpusError, match="needs 300,000 bytes"):
        fetch(server.url(), tmp_path / "a.bin", SHA256)


def tar(path: Path, members: dict[str, bytes], *special: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:bz2") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for info in special:
            file.addfile(info)
    return path


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("pack", [tar, zipped])
def test_unpacking(tmp_path, pack):
    members = {"c/metadata.csv": b"a|b\n", "c/wavs/a.wav": b"123"}
    folder = unpack(pack(tmp_path / "x", members), tmp_path / "out")
    assert {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    } == members


@pytest.mark.parametrize("pack", [tar, zipped])
@pytest.mark.parametrize("name", ["../evil", "/tmp/tacoskip-evil", "a/../../evil", "C:\\evil"])
def test_paths_that_leave_the_folder(tmp_path, pack, name):
    archive = pack(tmp_path / "x", {"good": b"1", name: b"bad"})
    with pytest.raises(CorpusError, match="leaves its folder"):
        unpack(archive, tmp_path / "in" / "out")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["x"]
    assert not Path("/tmp/tacoskip-evil").exists()


@pytest.mark.parametrize(
    "special",
    [
        link("a", "/etc/passwd", tarfile.SYMTYPE),
        link("a", "../../x", tarfile.SYMTYPE),
        link("a", "/etc/passwd", tarfile.LNKTYPE),
        link("a", "", tarfile.FIFOTYPE),
        link("a", "", tarfile.CHRTYPE),
    ],
)
def test_links_and_devices_in_an_archive(tmp_path, special):
    with pytest.raises(CorpusError, match="link or device"):
        unpack(tar(tmp_path / "x", {"good": b"1"}, special), tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()


def test_a_damaged_archive(tmp_path):
    archive = tar(tmp_path / "x", {"good": bytes(CONTENT)})
    archive.write_bytes(archive.read_bytes()[:100_000])
    with pytest.raises(CorpusError, match="cannot unpack"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_corpus_from_the_web_to_the_manifest(server, tmp_path, make, monkeypatch):
    """The whole way: broken off, resumed, checked, unpacked, prepared; then all of it is there."""
    buffers = {}
    for id, text in make.words(6):
        buffer = io.BytesIO()
        soundfile.write(buffer, make.buzz(0.1 * max(5, len(text))), 8000, format="WAV")
        buffers[f"LJSpeech-1.1/wavs/{id}.wav"] = buffer.getvalue()
    table = "".join(f"{id}|{text}|{text}\n" for id, text in make.words(6))
    members = {"LJSpeech-1.1/metadata.csv": table.encode()} | buffers
    archive = tar(tmp_path / "x.tar.bz2", members).read_bytes()
    server.files["/LJSpeech-1.1.tar.bz2"] = archive
    server.limits = [len(archive) // 2]
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    source = sources.Source(
        server.url("LJSpeech-1.1.tar.bz2"), hashlib.sha256(archive).hexdigest(), "LJSpeech-1.1"
    )
    monkeypatch.setitem(sources.SOURCES, "ljspeech", source)
    data = DataSettings(corpus="ljspeech", dir=str(tmp_path / "prepared"))
    settings = (data, AudioSettings(sample_rate=8000), TextSettings())
    report = prepare(*settings, jobs=1, downloads=tmp_path / "downloads")
    assert report.kept == 6 and len(server.requests) == 2
    assert prepare(*settings, jobs=1, downloads=tmp_path / "downloads").done == 0
    assert len(server.requests) == 2


def test_librispeech_parts(server, tmp_path, monkeypatch):
    for part in ("dev-clean", "test-clean"):
        members = {f"LibriSpeech/{part}/1/2/1-2.trans.txt": b"1-2-3 WORD\n"}
        archive = tar(tmp_path / part, members).read_bytes()
        server.files[f"/{part}.tar.gz"] = archive
        monkeypatch.setitem(sources.LIBRISPEECH_SHA256, part, hashlib.sha256(archive).hexdigest())
    monkeypatch.setattr(sources, "LIBRISPEECH_URL", server.url(""))
    data = DataSettings(corpus="librispeech", subset="dev-clean, test-clean")
    root = sources.find_root(data, tmp_path / "downloads", lambda *args: None)
    assert sorted(p.parent.name for p in root.rglob("2")) == ["1", "1"]
    with pytest.raises(ValueError, match="dev-cleen"):
        sources.find_root(
            DataSettings(corpus="librispeech", subset="dev-cleen"), tmp_path, lambda *args: None
        )


def test_published_checksums_are_whole():
    known = [s.sha256 for s in sources.SOURCES.values() if s.sha256]
    assert "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5" in known
    for checksum in known + list(sources.LIBRISPEECH_SHA256.values()):
        assert re.fullmatch("[0-9a-f]{64}", checksum)
