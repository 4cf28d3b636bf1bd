"""Files that a stranger wrote, or that were damaged: one line says so, and nothing else happens."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import strategies as st

from tacoskip.audio import AudioSettings, read_audio, stream_audio
from tacoskip.config import Config, load_config, to_dict
from tacoskip.data.checks import Rejected, prepare_clip
from tacoskip.data.corpora import find_corpus
from tacoskip.data.download import unpack
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepare import prepare, read_utterances
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.data.settings import DataSettings
from tacoskip.loading import load
from tacoskip.recognition.arpa import arpa_words
from tacoskip.recognition.beam import BeamDecoder, BeamSettings
from tacoskip.recognition.ngram import NGram
from tacoskip.run_folder import (
    Checkpoint,
    RunError,
    build_recognizer,
    load_checkpoint,
    save_checkpoint,
)
from tacoskip.text.subwords import Characters

from .conftest import KEYS, PLAIN, VALUES, Fuzz, damaged, one_line


def encoded(kind: str, subtype: str | None = None, channels: int = 1, rate: int = 8000) -> bytes:
    wave = 0.3 * np.sin(np.arange(900 * channels) / 3).reshape(-1, channels)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def test_audio(fuzz: Fuzz, tmp_path: Path) -> None:
    kinds = [("WAV", None), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAV", "GSM610")]
    kinds += [(kind, None) for kind in ("FLAC", "OGG", "MP3", "AIFF", "AU", "W64", "CAF", "RF64")]
    wholes = [encoded(kind, subtype) for kind, subtype in kinds] + [encoded("WAV", None, 2, 44100)]
    path, file = tmp_path / "a.wav", tmp_path / "a.flac"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        readers: list[Callable[[], Any]] = [
            lambda: read_audio(path, 8000)[0],
            lambda: np.concatenate(list(stream_audio(path, 8000))),
        ]
        for read in readers:
            try:
                wave = read()
                assert len(wave) and np.isfinite(wave).all()
            except ValueError as error:
                one_line(error, path)
        try:
            prepare_clip(path, file, "key", 20.0, 8000)
        except Rejected as error:
            one_line(error)
        assert {p.name for p in tmp_path.iterdir()} <= {"a.wav", "a.flac"}

    fuzz("audio files", check, damaged(wholes) | st.binary(max_size=60))


CELLS = st.one_of(
    st.sampled_from(["a", "b", "path", "text", "id", "speaker", "../x", "/etc/passwd", "\0", '"']),
    st.text(max_size=12),
)
TABLES = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda rows, mark, end: end.join(mark.join(row) for row in rows).encode("utf-8", "replace"),
        st.lists(st.lists(CELLS, max_size=4), max_size=5),
        st.sampled_from("|,;\t"),
        st.sampled_from(["\n", "\r\n", "\r"]),
    ),
    st.lists(PLAIN, max_size=4).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    st.lists(st.dictionaries(CELLS, PLAIN, max_size=4), max_size=4).map(
        lambda rows: "\n".join(map(json.dumps, rows)).encode()
    ),
)


def test_metadata(fuzz: Fuzz, tmp_path: Path) -> None:
    def check(value: tuple[str, str, bytes]) -> None:
        corpus, suffix, content = value
        for old in tmp_path.iterdir():
            old.unlink()
        (tmp_path / f"metadata.{suffix}").write_bytes(content)
        try:
            found, _ = read_utterances(find_corpus(corpus), tmp_path.resolve(), DataSettings())
        except CorpusError as error:
            one_line(error)
            return
        for utterance in found:
            assert utterance.path.resolve().is_relative_to(tmp_path.resolve())
            assert isinstance(utterance.text, str) and isinstance(utterance.speaker, str)

    corpora, suffixes = st.sampled_from(["folder", "ljspeech"]), st.sampled_from(["csv", "tsv"])
    fuzz("metadata", check, st.tuples(corpora, suffixes | st.just("jsonl"), TABLES))


@pytest.fixture(scope="module")
def recognizer() -> Checkpoint:
    """A recognizer with random weights."""
    config = load_config("smoke_asr")
    model = build_recognizer(config, 29)
    return Checkpoint(to_dict(config), ["s"], 29, 1.0, 1, model.state_dict(), {})


def test_checkpoints_with_wrong_bytes(fuzz: Fuzz, recognizer: Checkpoint, tmp_path: Path) -> None:
    """Each is refused, or is what was saved: never something else."""
    path = tmp_path / "a.pt"
    save_checkpoint(recognizer, path)
    whole = path.read_bytes()

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            found = load_checkpoint(path)
        except RunError as error:
            one_line(error)
            return
        assert (
            found.config == recognizer.config and found.weights.keys() == recognizer.weights.keys()
        )
        for name, value in found.weights.items():
            assert torch.equal(value, recognizer.weights[name])

    fuzz("checkpoints: bytes", check, damaged([whole]), share=0.4)


def test_checkpoints_with_wrong_values(fuzz: Fuzz, recognizer: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    plain = vars(recognizer)

    def check(changed: tuple[str, str, Any]) -> None:
        field, key, value = changed
        values = dict(plain)
        if field == "config":
            section, _, name = key.rpartition(".")
            config = json.loads(json.dumps(plain["config"]))
            (config[section] if section else config)[name] = value
            values["config"] = config
        elif field == "weights":
            name = sorted(recognizer.weights)[len(key) % len(recognizer.weights)]
            values["weights"] = {**recognizer.weights, name: value}
        else:
            values[field] = value
        torch.save(values, path)
        try:
            load(path, "cpu")
        except RunError as error:
            one_line(error)

    tensors = st.sampled_from(
        [torch.zeros(()), torch.zeros(3), torch.zeros(1).expand(10**9), torch.zeros(2, dtype=int)]
    )
    fields = st.sampled_from([*plain, "config", "config"])
    fuzz("checkpoints: values", check, st.tuples(fields, KEYS, VALUES | tensors), share=0.1)


def archives() -> list[bytes]:
    found = []
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as tar:
            for name in ("a/b.txt", "a/" + "c" * 120):
                info = tarfile.TarInfo(name)
                info.size = 5
                tar.addfile(info, io.BytesIO(b"hello"))
        found.append(buffer.getvalue())
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", how) as file:
            file.writestr("a/b.txt", "hello")
            file.writestr("c", "hello" * 9)
        found.append(buffer.getvalue())
    return found


def test_archives(fuzz: Fuzz, tmp_path: Path) -> None:
    archive, folder = tmp_path / "x", tmp_path / "in" / "out"

    def check(content: bytes) -> None:
        archive.write_bytes(content)
        number = len(list(folder.parent.iterdir())) if folder.parent.is_dir() else 0
        try:
            unpack(archive, folder.with_name(f"out{number}"))
        except CorpusError as error:
            one_line(error)
        assert {p.name for p in tmp_path.iterdir()} <= {"x", "in"}
        assert not any(p.is_symlink() for p in tmp_path.rglob("*"))
        assert not list(folder.parent.glob("*.part"))

    fuzz("archives", check, damaged(archives()), share=0.4)


@pytest.fixture(scope="module")
def prepared(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manifests") / "data"
    data = DataSettings(corpus="folder", root=str(tiny_corpus), dir=str(folder))
    prepare(Config(data=data, audio=AudioSettings(sample_rate=8000)), jobs=1)
    return folder


def test_manifests(fuzz: Fuzz, prepared: Path) -> None:
    """What opens has clips that lie in the folder."""
    table, report = prepared / "train.jsonl.gz", prepared / "report.json"
    whole, told = gzip.decompress(table.read_bytes()), report.read_bytes()
    rows = [json.loads(line) for line in whole.splitlines()]

    def check(value: tuple[str, Any, bytes]) -> None:
        kind, odd, content = value
        table.write_bytes(gzip.compress(whole, 1))
        report.write_bytes(told)
        if kind == "rows":
            table.write_bytes(gzip.compress(content, 1))
        elif kind == "gzip":
            table.write_bytes(content)
        elif kind == "report":
            report.write_bytes(content)
        else:
            row = json.loads(json.dumps(rows[0]))
            place: Any = row
            *path, last = kind.split()
            for name in path:
                place = place[int(name) if name.isdigit() else name]
            place[int(last) if last.isdigit() else last] = odd
            table.write_bytes(gzip.compress(json.dumps(row).encode(), 1))
        try:
            corpus = PreparedCorpus(prepared)
        except CorpusError as error:
            one_line(error)
            return
        for clip in corpus.train:
            assert Path(clip.source).resolve().is_relative_to(prepared.resolve())
            assert clip.duration > 0 and clip.speaker in corpus.speakers

    kinds = ["id", "speaker", "text", "normalized", "samples", "span", "rows", "gzip", "report"]
    odd = PLAIN | st.sampled_from(["../../x", "/etc/passwd", "command", "url", "memory", "a\0b"])
    contents = damaged([whole, told, gzip.compress(whole, 1)])
    fuzz("manifests", check, st.tuples(st.sampled_from(kinds), odd, contents), share=0.1)
    table.write_bytes(gzip.compress(whole))
    report.write_bytes(told)


@pytest.mark.usefixtures("flashlight")
def test_language_models(fuzz: Fuzz, tmp_path: Path) -> None:
    """KenLM itself crashes on some of these: what it is given has been read before."""
    path = tmp_path / "lm.arpa"
    NGram([["the", "cat"], ["a", "cat", "sat"], ["the", "dog"]], 3).write(path)
    torch.manual_seed(0)
    log_probs = torch.randn(12, 29).log_softmax(-1)
    whole = path.read_bytes()

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            arpa_words(path)
            BeamDecoder(Characters(), BeamSettings(3, str(path)))(log_probs)
        except ValueError as error:
            one_line(error, path)

    lines = st.lists(
        st.sampled_from(
            [*whole.splitlines(), b"", b"ngram 1=0", b"-1\t<unk>", b"0\ta\t0", b"\\end\\"]
        )
    ).map(b"\n".join)
    fuzz("language models", check, damaged([whole]) | lines, share=0.3)
