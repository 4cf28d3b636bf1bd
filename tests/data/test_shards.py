"""Shards: the clips they were written of, the same batches from a folder and a server, and what is
refused.
"""

import gzip
import hashlib
import importlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lhotse import CutSet

from tacoskip.audio import FrontEnd
from tacoskip.data import Batch, Corpus, CorpusError, DataSettings, TrainBatches, clip_wave, places
from tacoskip.data.joining import spoken
from tacoskip.data.prepare import prepare
from tacoskip.data.sharding import ShardReport, write_shards
from tacoskip.data.shards import checksum, packed
from tacoskip.text import TextSettings, Tokenizer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
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
    prepare(data, make.audio, TextSettings(), jobs=2)
    report = write_shards(root / "prepared", root / "shards", shard_bytes=SMALL)
    return SimpleNamespace(
        prepared=root / "prepared",
        shards=root / "shards",
        report=report,
        corpus=Corpus(root / "prepared"),
        front_end=FrontEnd(make.audio),
        tokenizer=Tokenizer(TextSettings()),
    )


@pytest.fixture(scope="module")
def web() -> Iterator[Any]:
    """benchmarks/range_server.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
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


def batches(house: SimpleNamespace, corpus: Corpus, seed: int = 3, **given: Any) -> TrainBatches:
    ranks = {name: given.pop(name) for name in ("rank", "world_size") if name in given}
    data = DataSettings(**({"batch_seconds": 8.0, "max_batch": 5, "cache_mb": 0.0} | given))
    tools = house.front_end, house.tokenizer, corpus.speakers, seed
    return TrainBatches(corpus.train, data, *tools, **ranks)


def same(a: Batch, b: Batch) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("remote", [False, True])
def test_the_clips_are_those_of_the_corpus(house, serve, remote):
    found = Corpus(serve(house.shards).place if remote else house.shards)
    assert house.report.shards >= 5 and found.speakers == house.corpus.speakers == ["s0", "s1"]
    assert found.settings["audio"] == house.corpus.settings["audio"]
    assert found.settings["data"]["root"] == "", "where it was prepared is nobody's business"
    for split in SPLITS:
        cuts, known = getattr(found, split), list(getattr(house.corpus, split))
        assert len(cuts) == len(known)
        assert cuts.seconds.tolist() == [cut.duration for cut in known]
        for cut, other in zip(cuts, known, strict=True):
            assert (cut.id, cut.duration, spoken(cut)) == (other.id, other.duration, spoken(other))
            assert cut.supervisions[0].to_dict() == other.supervisions[0].to_dict()
            wave, rate = clip_wave(cut)
            expected, wanted = clip_wave(other)
            assert rate == wanted and np.array_equal(wave, expected)


def test_lhotse_reads_them_as_its_own(house):
    for split in SPLITS:
        found = list(CutSet.from_shar(in_dir=house.shards / split))
        known = list(getattr(house.corpus, split))
        plain = [cut.id for cut in known if ".." not in cut.id]
        assert [cut.id for cut in found if "%" not in cut.id] == plain
        for cut, other in zip(found, known, strict=True):
            np.testing.assert_array_equal(cut.load_audio(), other.load_audio())
            assert spoken(cut) == spoken(other)


@pytest.mark.parametrize("settings", [{}, {"workers": 0}, {"join": [1, 3], "cache_mb": 1.0}])
def test_the_batches_are_those_of_the_corpus_to_the_bit(house, serve, settings):
    places = house.shards, serve(house.shards).place
    known = batches(house, house.corpus, **settings)
    others = [batches(house, Corpus(place), **settings) for place in places]
    assert all(same(one.longest(), known.longest()) for one in others)
    for _ in range(25):
        expected = next(known)
        assert all(same(next(one), expected) for one in others)
    assert known.epoch > 0
    states = [one.state_dict() for one in (known, *others)]
    assert states[0] == states[1] == states[2], "so a run may move from one to the other"
    expected = [next(known) for _ in range(12)]
    for one in (known, *others):
        one.close()
    again = batches(house, Corpus(places[1]), **settings)
    again.load_state_dict(states[0])
    assert all(same(next(again), batch) for batch in expected)
    again.close()


def test_two_processes_share_a_batch(house, serve):
    place = serve(house.shards).place
    whole = batches(house, house.corpus)
    both = [batches(house, Corpus(place), rank=rank, world_size=2) for rank in (0, 1)]
    for _ in range(15):
        expected, (first, second) = next(whole).ids, (next(one) for one in both)
        assert first.ids == expected[::2]
        assert second.ids == expected[1::2] or (both[1].stand_in and len(expected) == 1)
    for one in (whole, *both):
        one.close()


def test_speakers_and_shares_are_chosen_as_in_the_corpus(house, make):
    data = DataSettings(corpus="folder", leave_out=["s1"], train_share=0.5)
    kept = [
        [cut.id for cut in Corpus.of(settings, make.audio, TextSettings()).train]
        for settings in (
            replace(data, root=str(house.shards)),
            replace(data, dir=str(house.prepared)),
        )
    ]
    assert kept[0] == kept[1] and 0 < len(kept[0]) < 12


def test_writing_goes_on_where_it_was_interrupted(house, tmp_path):
    def stop(done: int, total: int, note: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(house.prepared, tmp_path, stop, SMALL)
    with pytest.raises(CorpusError, match="no prepared corpus"):
        Corpus(tmp_path)
    (tmp_path / "train.000003.part").write_bytes(b"half a shard")
    kept = digests(tmp_path / "index")
    report = write_shards(house.prepared, tmp_path, shard_bytes=SMALL)
    assert report.written == report.shards - 3
    assert (
        digests(tmp_path) == digests(house.shards)
        and kept.items() <= digests(tmp_path / "index").items()
    )
    again = write_shards(house.prepared, tmp_path, shard_bytes=SMALL)
    assert again == replace(report, written=0)
    (tmp_path / "train" / "recording.000001.tar").write_bytes(b"")
    assert write_shards(house.prepared, tmp_path, shard_bytes=SMALL).written == 1
    fewer = write_shards(house.prepared, tmp_path, shard_bytes=4 * SMALL)
    assert fewer.shards < report.shards
    assert len(list((tmp_path / "train").iterdir())) == 2 * (fewer.shards - 2)
    assert len(Corpus(tmp_path).train) == len(house.corpus.train)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PAUSE", 0.001)


@pytest.mark.usefixtures("quick")
def test_a_server_that_goes_away_is_named_in_one_line(house, serve):
    one = serve(house.shards)
    loading = batches(house, Corpus(one.place), workers=2)
    next(loading)
    one.shutdown()
    one.server_close()
    again = r"127.0.0.1:\d+ does not answer .*, asking again"
    with (
        pytest.warns(UserWarning, match=again),
        pytest.raises(CorpusError, match=r"cannot read http.*recording.*5 attempts") as failed,
    ):
        deque(loading, maxlen=0)
    loading.close()
    assert "\n" not in str(failed.value)
    refused = r"cannot read .*shards.json: .*refused \(5 attempts\)"
    with pytest.warns(UserWarning, match=again), pytest.raises(CorpusError, match=refused):
        Corpus(one.place)


@pytest.mark.usefixtures("quick")
def test_a_server_that_stumbles_is_asked_again(house, serve, web):
    class Stumbling(web.Handler):
        asked = 0

        def do_GET(self) -> None:  # noqa: N802
            Stumbling.asked += 1
            if Stumbling.asked % 3 == 1:
                self.send_error(503)
            elif Stumbling.asked % 3 == 2 and "Range" in self.headers:
                self.send_response(206)  # and falls silent half-way
                self.send_header("Content-Length", "1000")
                self.send_header("Connection", "close")
                span = self.headers["Range"].replace("=", " ")
                self.send_header("Content-Range", f"{span}/*")
                self.end_headers()
                self.wfile.write(b"half")
                self.close_connection = True
            else:
                super().do_GET()

    place = serve(house.shards, Stumbling).place
    with pytest.warns(UserWarning, match="asking again"):
        waves = [clip_wave(cut)[0] for cut in Corpus(place).test]
    for wave, cut in zip(waves, house.corpus.test, strict=True):
        np.testing.assert_array_equal(wave, clip_wave(cut)[0])


def test_servers_that_cannot_do_it(house, serve):
    found = Corpus(serve(house.shards, SimpleHTTPRequestHandler).place)
    with pytest.raises(CorpusError, match="does not know Range requests"):
        clip_wave(found.train[0])
    with pytest.raises(CorpusError, match=r"cannot read .*/shards.json: .*404.* \(1 attempt\)"):
        Corpus(serve(house.prepared).place)


def test_a_token_in_the_address_is_sent_and_not_shown(house, serve, web):
    class Asking(web.Handler):
        def do_GET(self) -> None:  # noqa: N802
            if self.path.endswith("?token=secret"):
                super().do_GET()
            else:
                self.send_error(403)

    place = serve(house.shards, Asking).place
    assert len(clip_wave(Corpus(f"{place}/?token=secret").train[0])[0])
    with pytest.raises(CorpusError, match="403") as failed:
        Corpus(f"{place}?token=guess")
    assert "guess" not in str(failed.value)


@pytest.fixture
def copy(house: SimpleNamespace, tmp_path: Path) -> Path:
    """Shards to be spoilt."""
    target = tmp_path / "copy"
    for file in house.shards.rglob("*"):
        if file.is_file():
            place = target / file.relative_to(house.shards)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())
    return target


def spoil_row(folder: Path, change: Callable[[list[Any]], None]) -> None:
    """Change the second clip of the first shard; the header vouches for it."""
    file = folder / "index" / "train.000000.jsonl.gz"
    head, *rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    change(rows[1])
    content = packed(json.dumps(row) for row in (head, *rows))
    file.write_bytes(content)
    spoil_header(folder, lambda h: h["shards"]["train"][0].__setitem__(2, checksum(content)))


def spoil_header(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    header = json.loads((folder / "shards.json").read_text())
    change(header)
    (folder / "shards.json").write_text(json.dumps(header))


def bomb(folder: Path) -> None:
    content = gzip.compress(b"\n" * (1 << 27))
    (folder / "index" / "train.000000.jsonl.gz").write_bytes(content)
    spoil_header(folder, lambda h: h["shards"]["train"][0].__setitem__(2, checksum(content)))


def link_out(folder: Path) -> None:
    shard = folder / "train" / "recording.000000.tar"
    shard.rename(folder.parent / "elsewhere.tar")
    shard.symlink_to(folder.parent / "elsewhere.tar")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: spoil_row(f, lambda row: row.__setitem__(5, 10**9)), "not as prepare writes"),
        (lambda f: spoil_row(f, lambda row: row.__setitem__(5, -512)), "not as prepare writes"),
        (lambda f: spoil_row(f, lambda row: row.__setitem__(6, 10**12)), "not as prepare writes"),
        (lambda f: spoil_row(f, lambda row: row.__setitem__(1, 2)), "not as prepare writes"),
        (lambda f: spoil_row(f, lambda row: row.__setitem__(4, 0)), "not as prepare writes"),
        (lambda f: spoil_row(f, lambda row: row.__setitem__(4, 1e9)), "not as prepare writes"),
        (lambda f: spoil_row(f, lambda row: row.__setitem__(2, ["text"])), "not as prepare writes"),
        (lambda f: spoil_row(f, lambda row: row.append(0)), "not as prepare writes"),
        (bomb, "more than 67,108,864 bytes"),
        (link_out, "leads out of the corpus"),
        (lambda f: os.truncate(f / "train" / "recording.000001.tar", 5000), "cut short"),
        (lambda f: (f / "train" / "recording.000001.tar").unlink(), "No such file"),
        (lambda f: os.truncate(f / "index" / "train.000001.jsonl.gz", 90), "its checksum"),
        (lambda f: (f / "shards.json").write_text("[" * 10**5), "shards.json is not one"),
        (lambda f: (f / "shards.json").write_text('{"format": "other"}'), "shards.json is not one"),
        (lambda f: spoil_header(f, lambda h: h["shards"].pop("test")), "shards.json is not one"),
        (lambda f: spoil_header(f, lambda h: h.update(speakers=[1])), "no prepared corpus in"),
        (
            lambda f: spoil_header(f, lambda h: h["shards"]["train"][0].__setitem__(0, 10**9)),
            "expected 1000000000 clips",
        ),
        (
            lambda f: spoil_header(f, lambda h: h["shards"]["train"].append(["../x", 1, ""])),
            "shards.json is not one",
        ),
    ],
)
def test_shards_of_a_stranger(copy, spoil, said):
    assert len(Corpus(copy).train)
    spoil(copy)
    with pytest.raises(CorpusError, match=said) as refused:
        Corpus(copy)
    assert str(copy) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("remote", [False, True])
def test_a_damaged_shard_is_named_with_its_clip(copy, serve, remote):
    shard = copy / "train" / "recording.000000.tar"
    found = Corpus(serve(copy).place if remote else copy)
    cut = found.train[1]
    whole = shard.read_bytes()
    damaged = bytearray(whole)
    damaged[cut.custom["span"][0] + 700] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(CorpusError, match=rf"recording.000000.tar: damaged .* {cut.id}"):
        clip_wave(cut)
    shard.write_bytes(whole[:-1000])
    with pytest.raises(CorpusError, match=r"recording.000000.tar: .* cut short or another file"):
        clip_wave(cut)
    spoil_row(copy, lambda row: row.__setitem__(4, row[4] + 1))
    shard.write_bytes(whole)
    with pytest.raises(CorpusError, match=rf"{cut.id}: expected \d+ samples, got \d+"):
        clip_wave(Corpus(copy).train[1])


def test_where_shards_cannot_be_written(house, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="cannot write"):
        write_shards(house.prepared, tmp_path / "file")
    with pytest.raises(CorpusError, match="no prepared corpus"):
        write_shards(tmp_path, tmp_path / "shards")
    assert isinstance(house.report, ShardReport)
