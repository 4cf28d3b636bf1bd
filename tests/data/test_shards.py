"""A prepared corpus in shards and on a server: the same clips and batches, and what is refused."""

import gzip
import hashlib
import importlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
import torch

from tacoskip.audio import FrontEnd
from tacoskip.data import storage
from tacoskip.data.batches import TrainBatches
from tacoskip.data.errors import CorpusError
from tacoskip.data.loading import Batch
from tacoskip.data.prepare import prepare
from tacoskip.data.prepared import PreparedCorpus, write_shards
from tacoskip.data.settings import DataSettings
from tacoskip.text import TextSettings, Tokenizer

TESTS = Path(__file__).parents[1]
SMALL = 40_000  # bytes of a shard: several of these few clips
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, make) -> SimpleNamespace:
    """40 clips of two speakers, prepared and written as shards; one id cannot be a file's name."""
    root = tmp_path_factory.mktemp("corpus")
    clips = make.words(40)
    make.wavs(root, clips)
    rows = [f"{id},wavs/{id}.wav,{text},s{n % 2}" for n, (id, text) in enumerate(clips)]
    rows[0] = rows[0].replace("c000,", "../c 000/é,", 1)
    (root / "metadata.csv").write_text("\n".join(["id,path,text,speaker", *rows]))
    data = DataSettings(corpus="folder", root=str(root), dir=str(root / "prepared"))
    prepare(make.config(data, make.audio), jobs=2)
    report = write_shards(root / "prepared", root / "shards", shard_bytes=SMALL)
    return SimpleNamespace(
        prepared=root / "prepared",
        shards=root / "shards",
        report=report,
        corpus=PreparedCorpus(root / "prepared"),
        front_end=FrontEnd(make.audio),
        tokenizer=Tokenizer(TextSettings()),
    )


@pytest.fixture(scope="module")
def web() -> Iterator[Any]:
    """tests/range_server.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TESTS)
        yield importlib.import_module("range_server")


@pytest.fixture
def serve(web: Any) -> Iterator[Callable[..., ThreadingHTTPServer]]:
    """Serves a folder; returns the server, whose `place` is its URL."""
    running = []

    def start(folder: Path, handler: Any = None) -> ThreadingHTTPServer:
        one = web.server(folder)
        if handler:
            one.RequestHandlerClass = lambda *a: handler(*a, directory=str(folder))
        one.place = f"http://127.0.0.1:{one.server_port}"
        threading.Thread(target=one.serve_forever, daemon=True).start()
        running.append(one)
        return one

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


def batches(
    house: SimpleNamespace, corpus: PreparedCorpus, seed: int = 3, **settings: Any
) -> TrainBatches:
    data = DataSettings(**({"batch_seconds": 8.0, "max_batch": 5} | settings))
    tools = house.front_end, house.tokenizer, corpus.speakers, seed
    return TrainBatches(corpus.train, data, *tools)


def same(a: Batch, b: Batch) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture
def place(house: SimpleNamespace, serve: Any, request: pytest.FixtureRequest) -> str:
    """The corpus in shards or in files of its own; in a folder, on a server or in fsspec's."""
    kind, where = request.param.split()
    folder: Path = {"shards": house.shards, "files": house.prepared}[kind]
    if where == "server":
        return str(serve(folder).place)
    if where == "memory":
        fsspec.filesystem("memory").put(str(folder), f"/{kind}", recursive=True)
        return f"memory://{kind}"
    return str(folder)


PLACES = ["shards folder", "shards server", "files server", "shards memory", "files memory"]


@pytest.mark.parametrize("place", PLACES, indirect=True)
def test_clips_are_those_of_the_prepared_folder(house, place):
    opened = PreparedCorpus(place)
    assert len(house.report) >= 5 and opened.speakers == house.corpus.speakers == ["s0", "s1"]
    assert opened.settings["audio"] == house.corpus.settings["audio"]
    for split in SPLITS:
        clips, expected = getattr(opened, split), getattr(house.corpus, split)
        assert [c.id for c in clips] == [c.id for c in expected]
        for clip, other in zip(clips, expected, strict=True):
            assert (clip.duration, clip.text, clip.normalized, clip.speaker) == (
                *(other.duration, other.text, other.normalized, other.speaker),
            )
            assert np.array_equal(clip.load(), other.load())


@pytest.mark.parametrize("place", ["shards server"], indirect=True)
@pytest.mark.parametrize("settings", [{}, {"workers": 0}, {"join": [1, 3]}])
def test_batches_are_those_of_the_prepared_folder(house, place, settings, monkeypatch):
    monkeypatch.setattr("tacoskip.data.loading.CACHE_BYTES", 100_000)
    expected = batches(house, house.corpus, **settings)
    remote = batches(house, PreparedCorpus(place), **settings)
    assert same(remote.longest(), expected.longest())
    for _ in range(25):
        assert same(next(remote), next(expected))
    assert remote.epoch > 0 and remote.state_dict() == expected.state_dict()
    resumed = batches(house, PreparedCorpus(place), **settings)
    resumed.load_state_dict(expected.state_dict())
    assert all(same(next(resumed), next(expected)) for _ in range(12))
    for each in (expected, remote, resumed):
        each.close()


def test_report_of_shards_does_not_name_this_machine(house):
    report = (house.shards / "report.json").read_text()
    assert str(house.prepared.parent) not in report and "split_of" not in report


def test_shards_are_written_again_after_an_interruption(house, tmp_path):
    def stop(done: int, total: int, note: str) -> None:
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(house.prepared, tmp_path, stop, SMALL)
    with pytest.raises(CorpusError, match="no prepared corpus"):
        PreparedCorpus(tmp_path)
    assert not list(tmp_path.glob("*.part"))
    report = write_shards(house.prepared, tmp_path, shard_bytes=SMALL)
    assert digests(tmp_path) == digests(house.shards)
    fewer = write_shards(house.prepared, tmp_path, shard_bytes=4 * SMALL)
    assert len(list(tmp_path.glob("*.tar"))) == len(fewer) < len(report)
    assert len(PreparedCorpus(tmp_path).train) == len(house.corpus.train)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PAUSE", 0.001)


@pytest.mark.usefixtures("quick")
def test_server_that_goes_away_is_named_in_one_line(house, serve):
    one = serve(house.shards)
    loading = batches(house, PreparedCorpus(one.place), workers=2)
    next(loading)
    one.shutdown()
    one.server_close()
    storage._session().close()
    again = r"127.0.0.1:\d+ does not answer .*, asking again"
    with (
        pytest.warns(UserWarning, match=again),
        pytest.raises(CorpusError, match=r"cannot read http.*audio.*tar.*5 attempts") as failed,
    ):
        deque(loading, maxlen=0)
    loading.close()
    assert "\n" not in str(failed.value)
    with (
        pytest.warns(UserWarning, match=again),
        pytest.raises(CorpusError, match=r"cannot read .*report.json: .*\(5 attempts\)"),
    ):
        PreparedCorpus(one.place)


@pytest.mark.usefixtures("quick")
def test_server_that_fails_now_and_then_is_asked_again(house, serve, web):
    class Stumbling(web.Handler):
        asked = 0

        def do_GET(self) -> None:  # noqa: N802
            Stumbling.asked += 1
            if Stumbling.asked % 3 == 1:
                self.send_error(503)
            elif Stumbling.asked % 3 == 2 and "Range" in self.headers:
                self.send_response(206)  # and ends half-way
                self.send_header("Content-Length", "1000")
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(b"half")
                self.close_connection = True
            else:
                super().do_GET()

    place = serve(house.shards, Stumbling).place
    with pytest.warns(UserWarning, match="asking again"):
        waves = [clip.load() for clip in PreparedCorpus(place).test]
    for wave, clip in zip(waves, house.corpus.test, strict=True):
        np.testing.assert_array_equal(wave, clip.load())


def test_server_without_ranges_is_named(house, serve, tmp_path):
    opened = PreparedCorpus(serve(house.shards, SimpleHTTPRequestHandler).place)
    with pytest.raises(CorpusError, match="does not answer Range requests"):
        opened.train[0].load()
    with pytest.raises(CorpusError, match=r"cannot read .*/report.json: HTTP 404 \(1 attempt\)"):
        PreparedCorpus(serve(tmp_path).place)
    with pytest.raises(CorpusError, match=r"cannot read nosuch://a/report.json: .*nosuch"):
        PreparedCorpus("nosuch://a")


@pytest.mark.hostile
def test_token_in_the_address_is_sent_and_not_shown(house, serve, web, monkeypatch):
    class Asking(web.Handler):
        def do_GET(self) -> None:  # noqa: N802
            if self.path.endswith("?token=secret"):
                super().do_GET()
            else:
                self.send_error(403)

    place = serve(house.shards, Asking).place
    assert len(PreparedCorpus(f"{place}/?token=secret").train[0].load())
    with pytest.raises(CorpusError, match="403") as failed:
        PreparedCorpus(f"{place}?token=guess")
    assert "guess" not in str(failed.value)
    monkeypatch.setenv("TACOSKIP_ADDRESS", f"{place}?token=secret")
    assert len(PreparedCorpus(place).train[0].load())
    with pytest.raises(CorpusError, match="403"):
        PreparedCorpus(f"{place}/elsewhere")


@pytest.fixture
def copy(house: SimpleNamespace, tmp_path: Path) -> Path:
    """Shards to be damaged."""
    target = tmp_path / "copy"
    target.mkdir()
    for file in house.shards.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def change_row(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the second training clip."""
    file = folder / "train.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    change(rows[1])
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))


def bomb(folder: Path) -> None:
    (folder / "train.jsonl.gz").write_bytes(gzip.compress(b"\n" * (1 << 27)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: change_row(f, lambda row: row.update(span=[0, -512, 5, 5])), "not a manifest"),
        (lambda f: change_row(f, lambda row: row.update(samples=0)), "not a manifest"),
        (lambda f: change_row(f, lambda row: row.update(speaker="nobody")), "not a manifest"),
        (bomb, "more than 1,000,000 bytes"),
        (lambda f: os.truncate(f / "train.jsonl.gz", 90), "cut short"),
        (lambda f: (f / "report.json").write_text("[" * 10**5), "no prepared corpus in"),
        (lambda f: (f / "report.json").write_text('{"kept": 1}'), "no prepared corpus in"),
        (lambda f: (f / "test.jsonl.gz").unlink(), "No such file"),
    ],
)
def test_shards_of_a_stranger_are_checked(copy, damage, message, monkeypatch):
    monkeypatch.setattr("tacoskip.data.prepared.LARGEST_MANIFEST", 1_000_000)
    assert len(PreparedCorpus(copy).train)
    damage(copy)
    with pytest.raises(CorpusError, match=message) as refused:
        PreparedCorpus(copy)
    assert str(copy) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("remote", [False, True])
def test_damaged_shard_is_named_with_its_clip(copy, serve, remote):
    shard = copy / "audio.000000.tar"
    clip = PreparedCorpus(serve(copy).place if remote else copy).train[1]
    whole = shard.read_bytes()
    damaged = bytearray(whole)
    damaged[clip.span[0] + 700] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(CorpusError, match=rf"audio.000000.tar: damaged .* {clip.id}"):
        clip.load()
    shard.write_bytes(whole[: clip.span[0] + 20])
    with pytest.raises(CorpusError, match=rf"audio.000000.tar: damaged .* {clip.id}"):
        clip.load()
    shard.write_bytes(whole)
    change_row(copy, lambda row: row.update(samples=row["samples"] + 1))
    with pytest.raises(CorpusError, match=rf"{clip.id}: expected \d+ samples, got \d+"):
        PreparedCorpus(copy).train[1].load()


@pytest.mark.hostile
def test_errors_of_a_storage_hold_no_token(tmp_path):
    with pytest.raises(CorpusError, match="cannot read file://") as refused:
        storage.read(f"file://{tmp_path}/none?token=hidden")
    assert "hidden" not in str(refused.value)


@pytest.mark.hostile
def test_files_beside_shards_are_not_deleted(house, tmp_path):
    mine = tmp_path / "audio.backup.tar"
    mine.write_text("mine")
    with pytest.raises(CorpusError, match=r"expected no other files .* got 'audio\.backup\.tar'"):
        write_shards(house.prepared, tmp_path)
    assert mine.read_text() == "mine"


def test_where_shards_cannot_be_written(house, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="cannot write"):
        write_shards(house.prepared, tmp_path / "file")
    with pytest.raises(CorpusError, match="no prepared corpus"):
        write_shards(tmp_path, tmp_path / "shards")
