"""Checkpoints: whole or absent, loaded without executing anything, refused in one line."""

import os
import pickle
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tacoskip.cli import app
from tacoskip.config import ConfigError, from_dict, load_config, to_dict
from tacoskip.run_folder import (
    Checkpoint,
    RunError,
    build_tacotron,
    config_of,
    find_checkpoint,
    load_checkpoint,
    open_run,
    save_checkpoint,
)


def checkpoint() -> Checkpoint:
    config = load_config("smoke")
    model = build_tacotron(config, 10, 2)
    return Checkpoint(to_dict(config), ["a", "b"], 10, 6.5, 3, model.state_dict(), {})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path, saved = tmp_path / "run" / "checkpoints" / "best.pt", checkpoint()
    save_checkpoint(saved, path)
    loaded = load_checkpoint(path)
    assert (loaded.speakers, loaded.step, loaded.frames_per_symbol) == (["a", "b"], 3, 6.5)
    assert config_of(loaded, path) == load_config("smoke")
    torch.testing.assert_close(loaded.weights, saved.weights)
    assert [p.name for p in path.parent.iterdir()] == ["best.pt"]


def test_best_is_preferred_to_newest_and_a_file_to_both(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for step in (9, 10, 100):
        (folder / f"step-{step:08d}.pt").touch()
    assert find_checkpoint(tmp_path / "run").name == "step-00000100.pt"
    (folder / "best.pt").touch()
    assert find_checkpoint(tmp_path / "run").name == "best.pt"
    assert find_checkpoint(folder / "step-00000009.pt").name == "step-00000009.pt"


@pytest.mark.hostile
def test_errors_hold_no_token_of_an_address() -> None:
    with pytest.raises(RunError, match="no run folder or checkpoint 'https://h/x'"):
        find_checkpoint("https://me:hidden@h/x?token=hidden")


def test_missing_runs_are_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "ljspeech" / "checkpoints").mkdir(parents=True)
    with pytest.raises(RunError, match=r"did you mean '.*ljspeech'"):
        find_checkpoint(tmp_path / "ljspech")
    with pytest.raises(RunError, match="no checkpoint in"):
        find_checkpoint(tmp_path / "ljspeech")


@pytest.mark.parametrize(
    "kind", ["empty", "text", "cut short", "zip", "other pickle", "other tensors"]
)
def test_a_damaged_checkpoint_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    save_checkpoint(checkpoint(), path)
    whole = path.read_bytes()
    if kind == "other tensors":
        torch.save({"weights": {"a": torch.zeros(2)}}, path)
    else:
        contents = {
            "empty": b"",
            "text": b"this is no checkpoint\n",
            "cut short": whole[: len(whole) // 2],
            "zip": b"PK\x03\x04" + b"\0" * 64,
            "other pickle": pickle.dumps([1, 2, 3]),
        }
        path.write_bytes(contents[kind])
    with pytest.raises(RunError, match="damaged or not a tacoskip checkpoint") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


class Malicious:
    """Unpickling this would create a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [None, *range(pickle.HIGHEST_PROTOCOL + 1)])
@pytest.mark.hostile
def test_a_checkpoint_with_code_is_refused_in_one_line_and_not_executed(
    protocol: int | None, tmp_path: Path
) -> None:
    """A plain pickle of each protocol, and None: one that torch wrote."""
    path, trace = tmp_path / "evil.pt", tmp_path / "executed"
    evil = {"weights": Malicious(str(trace))}
    if protocol is None:
        torch.save(evil, path)
    else:
        path.write_bytes(pickle.dumps(evil, protocol))
    result = CliRunner().invoke(app, ["synthesize", str(path), "hello"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1  # torch has a warning of its own for most of them
    assert result.stderr.startswith((f"error: {path}: refused", f"error: {path}: damaged"))
    assert not trace.exists()
    pickle.loads(pickle.dumps(evil, protocol))
    assert trace.exists()  # so that it would have been seen


def test_weights_of_another_network_are_refused_in_one_line(tmp_path: Path) -> None:
    from tacoskip.loading import load

    found = checkpoint()
    found.weights.popitem()
    save_checkpoint(found, tmp_path / "old.pt")
    with pytest.raises(RunError, match=r"old\.pt: made by another version"):
        load(tmp_path / "old.pt")


def test_a_checkpoint_of_a_later_version_says_so(tmp_path: Path) -> None:
    torch.save(vars(checkpoint()) | {"something_new": 1}, tmp_path / "new.pt")
    with pytest.raises(RunError, match=r"new\.pt: made by another version of tacoskip$"):
        load_checkpoint(tmp_path / "new.pt")


@pytest.mark.hostile
def test_one_wrong_bit_is_found(tmp_path: Path) -> None:
    """The library reads such a file without a word."""
    path = tmp_path / "best.pt"
    save_checkpoint(checkpoint(), path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        tensors = (member for member in file.infolist() if "/data/" in member.filename)
        largest = max(tensors, key=lambda member: member.file_size)
    place = largest.header_offset + 200 + largest.file_size // 2
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    assert isinstance(torch.load(path, weights_only=True), dict)
    with pytest.raises(RunError, match="damaged or not a tacoskip checkpoint"):
        load_checkpoint(path)


def test_a_compressed_checkpoint_is_none(tmp_path: Path) -> None:
    """It could unpack to any size."""
    save_checkpoint(checkpoint(), tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as whole,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(RunError, match="damaged or not"):
        load_checkpoint(tmp_path / "b.pt")


@pytest.mark.hostile
def test_a_pickle_and_a_zip_in_one_file_is_no_checkpoint(tmp_path: Path) -> None:
    """Torch would read the pickle in front, the checksums are those of the zip behind."""
    save_checkpoint(checkpoint(), tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    torch.save(vars(checkpoint()), tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    front = (tmp_path / "b.pt").read_bytes()
    last = whole[:-1] + bytes([whole[-1] ^ 16])  # the length of a comment
    for content in (front + whole, whole + whole, whole[:4] + whole, whole + b"\0" * 99, last):
        (tmp_path / "c.pt").write_bytes(content)
        with pytest.raises(RunError, match="damaged or not"):
            load_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.hostile
def test_weights_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    from tacoskip.loading import load

    found = checkpoint()
    found.weights["encoder.embedding.weight"][3, 1] = value
    save_checkpoint(found, tmp_path / "a.pt")
    with pytest.raises(RunError, match=r"a\.pt: expected finite weights.*encoder\.embedding"):
        load(tmp_path / "a.pt", "cpu")


@pytest.mark.hostile
def test_readers_never_meet_a_checkpoint_that_training_deletes(tmp_path: Path) -> None:
    """A checkpoint a step with train.keep=1, and readers that open the newest."""
    small = Checkpoint({}, ["a"], 3, 1.0, 0, {"a": torch.zeros(50_000)}, {})
    folder, done = tmp_path / "run" / "checkpoints", threading.Event()
    save_checkpoint(small, folder / "step-00000000.pt")

    def write() -> None:
        for step in range(1, 1000):
            save_checkpoint(small, folder / f"step-{step:08d}.pt")
            (folder / f"step-{step - 1:08d}.pt").unlink()
            if done.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(150):
            assert open_run(tmp_path / "run")[1].n_symbols == 3
    finally:
        done.set()
        writer.join()


@pytest.mark.parametrize(
    ("header", "tensors"),
    [
        (b"{}", b""),
        (b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,39999999996]}}', b"1234"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', b"1234"),
        (b"[" * 1000, b""),
    ],
)
@pytest.mark.parametrize("length", [None, 2**63 - 1, 0])
def test_safetensors_whose_headers_lie(
    header: bytes, tensors: bytes, length: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    size = len(header) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + header + tensors)
    with pytest.raises(RunError, match="damaged or not a tacoskip checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": [1]}, "damaged"),
        ({"speakers": "ab"}, "damaged"),
        ({"n_symbols": 1.5}, "damaged"),
        ({"n_symbols": False}, "damaged"),
        ({"frames_per_symbol": float("nan")}, "damaged"),
        ({"frames_per_symbol": -5.0}, "damaged"),
        ({"frames_per_symbol": 1e300}, "damaged"),
        ({"speakers": []}, "damaged"),
        ({}, "expected weights for"),
        ({"n_symbols": 0}, "made by another version"),
        ({"weights": {"a": 1}}, "damaged"),
        ({"weights": {"a": torch.zeros(1).expand(10**12)}}, "damaged"),
        ({"training": None}, "damaged"),
        ({"vocabulary": 1}, "damaged"),
        ({"n_symbols": 10**15}, "made by another version"),
        ({"n_symbols": -1}, "made by another version"),
        ({"speakers": ["a"] * 1000}, "made by another version"),
        ({"config": {"cbhg": {"channels": 60_000}}}, "made by another version"),
        ({"config": {"cbhg": {"channels": 10**9}}}, "at most 65536"),
        ({"config": {"task": "asr", "asr": {"subsampling": 65536}}}, "at most 64"),
    ],
)
@pytest.mark.hostile
def test_fields_that_cannot_be_are_refused_before_they_take_memory(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    from tacoskip.loading import load

    torch.save(vars(checkpoint()) | change, tmp_path / "a.pt")
    with pytest.raises(RunError, match=said) as refused:
        load(tmp_path / "a.pt", "cpu")
    assert "\n" not in str(refused.value)


def test_a_full_disk_leaves_the_checkpoint_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.pt"
    save_checkpoint(checkpoint(), path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda number: os.fstat(-1))
        with pytest.raises(OSError, match="Bad file descriptor") as failed:
            save_checkpoint(checkpoint(), path)
    assert failed.value.filename == str(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["best.pt"]


def test_a_recognizer_of_another_versions_defaults_for_voices_is_read() -> None:
    config = load_config("smoke_asr")
    values = to_dict(config) | {"griffin_lim": {"iterations": 30, "since gone": 1}}
    assert from_dict(values) == config
    with pytest.raises(ConfigError, match="since gone"):
        from_dict(values | {"task": "tts"})


def test_load_stays_a_function_after_its_first_use() -> None:
    import tacoskip

    assert callable(tacoskip.load) and callable(tacoskip.load)
