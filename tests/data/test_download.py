"""Downloads from a local server: whole, broken off, wrong; archives that must be refused."""

import hashlib
import io
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

from tacoskip.data.corpora import Archive, built_in
from tacoskip.data.corpora.arctic import Arctic
from tacoskip.data.corpora.librispeech import LibriSpeech
from tacoskip.data.corpora.ljspeech import LJSpeech
from tacoskip.data.download import fetch, unpack
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepare import prepare
from tacoskip.data.settings import DataSettings, corpus_names
from tacoskip.data.utterance import Notes

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; breaks off after `limits` bytes, one limit a request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/a.bin": CONTENT}
        self.limits: list[int] = []
        self.requests = 0

    def url(self, name: str = "a.bin") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        limit = self.server.limits.pop(0) if self.server.limits else len(content)
        self.wfile.write(content[:limit])

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


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)


def test_file_is_fetched_once_with_progress(server, tmp_path):
    seen: list[tuple[int, int, str]] = []
    path = fetch(server.url(), tmp_path / "a.bin", SHA256, lambda *args: seen.append(args))
    assert path.read_bytes() == CONTENT and [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert seen[-1] == (300_000, 300_000, "download a.bin (bytes)")
    fetch(server.url(), path, SHA256)
    fetch(server.url(), path)
    assert server.requests == 1


def test_broken_download_is_tried_again(server, tmp_path):
    server.limits = [100_000, 50_000]
    fetch(server.url(), tmp_path / "a.bin", SHA256)
    assert server.requests == 3 and (tmp_path / "a.bin").read_bytes() == CONTENT


def test_failed_download_leaves_nothing(server, tmp_path):
    server.limits = [1000] * 9
    with pytest.raises(CorpusError, match=r"cannot download http.*run again.*data\.root") as error:
        fetch(server.url(), tmp_path / "a.bin", SHA256)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_interrupt_leaves_nothing(server, tmp_path):
    def interrupt(done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.url(), tmp_path / "a.bin", SHA256, interrupt)
    assert not list(tmp_path.iterdir())


def test_wrong_checksum(server, tmp_path):
    server.files["/a.bin"] = b"something else"
    with pytest.raises(CorpusError, match=f"hash.*{SHA256}"):
        fetch(server.url(), tmp_path / "a.bin", SHA256)
    assert not list(tmp_path.iterdir())
    server.files["/a.bin"] = CONTENT
    (tmp_path / "a.bin").write_bytes(b"damaged")
    fetch(server.url(), tmp_path / "a.bin", SHA256)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_file_that_is_not_there(server, tmp_path):
    with pytest.raises(CorpusError, match=r"404.*Not Found.*data\.root") as error:
        fetch(server.url("gone.bin"), tmp_path / "gone.bin")
    assert "\n" not in str(error.value)
    with pytest.raises(CorpusError, match="cannot download"):
        fetch("http://127.0.0.1:9/x", tmp_path / "x")


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
    """Broken off, fetched again, checked, unpacked, prepared; then all of it is there."""
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
    url = server.url("LJSpeech-1.1.tar.bz2")
    archives = (Archive(url, hashlib.sha256(archive).hexdigest()),)
    monkeypatch.setattr(LJSpeech, "archives", archives)
    data = DataSettings(corpus="ljspeech", dir=str(tmp_path / "prepared"))
    config = make.config(data, make.audio)
    report = prepare(config, jobs=1, downloads=tmp_path / "downloads")
    assert report.kept == 6 and server.requests == 2
    assert prepare(config, jobs=1, downloads=tmp_path / "downloads").done == 0
    assert server.requests == 2


def test_librispeech_parts(server, tmp_path, monkeypatch):
    archives = []
    for part in ("dev-clean", "test-clean", "train-other-500"):
        members = {f"LibriSpeech/{part}/1/2/1-2.trans.txt": b"1-2-3 WORD\n"}
        content = tar(tmp_path / part, members).read_bytes()
        server.files[f"/{part}.tar.gz"] = content
        digest = hashlib.sha256(content).hexdigest()
        archives.append(Archive(server.url(f"{part}.tar.gz"), digest, part))
    monkeypatch.setattr(LibriSpeech, "archives", tuple(archives))
    data = DataSettings(corpus="librispeech", subset="dev-clean, test-clean")
    root = LibriSpeech().fetch(tmp_path / "downloads", data, lambda *args: None)
    assert sorted(p.parent.name for p in root.rglob("2")) == ["1", "1"]
    assert len(list(LibriSpeech().read(root, data, Notes()))) == 2
    with pytest.raises(ValueError, match="dev-cleen"):
        LibriSpeech().fetch(tmp_path, DataSettings(subset="dev-cleen"), lambda *args: None)


def test_arctic_speakers_are_fetched_as_chosen(tmp_path):
    def chosen(speaker: str) -> list[str]:
        return Arctic().chosen_parts(DataSettings(corpus="arctic", speaker=speaker))

    assert (chosen("slt"), chosen("-slt"), chosen("")) == (["slt"], [], [])
    data = DataSettings(corpus="arctic", speaker="kathleen")
    with pytest.raises(ValueError, match=r"slt, bdl to download, got 'kathleen': set data\.root"):
        Arctic().fetch(tmp_path, data, lambda *args: None)


@pytest.mark.parametrize("name", corpus_names())
def test_every_corpus_is_described(name):
    corpus = built_in(name)
    assert corpus.name == name
    assert name == "folder" or (corpus.licence and corpus.citation and corpus.sample_rate)
    for archive in corpus.archives:
        assert archive.url.startswith("http")
        assert re.fullmatch("[0-9a-f]{64}", archive.sha256) or name == "fsdd"
