"""A disk that fills up at any moment: whole files stay whole, and one line reports it.

The disk is a tmpfs of a few megabytes, where one may be mounted; a limit on the size of files
replaces it elsewhere.
"""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from tacoskip.audio import read_audio
from tacoskip.cli import app
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.run_folder import checkpoints, load_checkpoint

from .conftest import Ledger
from .test_checkpoints import STEPS, Train, straight, train
from .test_kill import outcome, same

__all__ = ["straight", "train"]  # fixtures

pytestmark = pytest.mark.faults

SIZE = 8_000_000


class Disk:
    """A small disk, and a file on it that leaves as much room as is asked for."""

    def __init__(self, root: Path) -> None:
        self.root, self._ballast = root, root / "ballast"

    def leave(self, room: int) -> None:
        self.free()
        size = shutil.disk_usage(self.root).free - room
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, size))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no program `mount` here")
    if done.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here ({done.stderr.strip()})")
    yield Disk(folder)
    subprocess.run(["umount", str(folder)], check=True)


def the_error(stderr: str) -> str:
    """The one line that says what went wrong; a traceback would be more."""
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in stderr, stderr
    return lines[0]


@pytest.mark.parametrize("room", [0, 4, 16, 40, 80, 120, 200, 320])
def test_full_disk_during_training_loses_nothing(
    room: int,
    disk: Disk,
    straight: tuple[Path, Path],
    train: Train,
    inject: Ledger,
) -> None:
    """room: KiB that are left, for events, checkpoints, pictures, whatever comes first."""
    run = disk.root / "run"
    shutil.copytree(straight[1], run)
    good = {path: path.read_bytes() for path in checkpoints(run)}
    disk.leave(room << 10)
    with inject("full disk: training"):
        result = train(run, STEPS)
        if result.exit_code:
            assert result.exit_code == 1
            assert "No space left on device; make some and run again" in the_error(result.stderr)
            assert str(run) in the_error(result.stderr)
        assert not list(run.rglob("*.part*"))
        for path in checkpoints(run):
            load_checkpoint(path)
        assert checkpoints(run)[-1].name >= max(good).name
        disk.free()
        again = train(run, STEPS)
        assert again.exit_code == 0, again.stderr
        state, curves = outcome(run)
        expected, expected_curves = outcome(straight[0])
        assert same(state, expected)
        assert curves == expected_curves


def test_limit_on_file_size_during_training_loses_nothing(
    straight: tuple[Path, Path], tiny_corpus: Path, tmp_path: Path, inject: Ledger
) -> None:
    """Where nothing may be mounted: no file may grow beyond 30 KB."""
    run = tmp_path / "run"
    shutil.copytree(straight[1], run)
    good = {path: path.read_bytes() for path in checkpoints(run)}
    command = [sys.executable, "-c", "from tacoskip.cli import main; main()", "train"]
    command += ["recipe=smoke_asr", f"data.root={tiny_corpus}", f"run={run}"]
    command += [f"data.dir={tmp_path / 'data'}", "train.max_steps=9", "train.device=cpu"]
    with inject("full disk: training"):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
        )
        assert done.returncode == 1, done.stderr
        assert "File too large" in the_error(done.stderr)
        assert {path: path.read_bytes() for path in checkpoints(run)} == good
        assert not list(run.rglob("*.part*"))


@pytest.mark.parametrize("room", [0, 4, 12, 24, 48, 96])
def test_full_disk_during_prepare_loses_nothing(
    room: int, disk: Disk, tiny_corpus: Path, inject: Ledger
) -> None:
    folder = disk.root / "data"
    settings = ["recipe=smoke", f"data.root={tiny_corpus}", f"data.dir={folder}"]
    disk.leave(room << 10)
    with inject("full disk: preparing"):
        result = CliRunner().invoke(app, ["prepare", *settings])
        assert result.exit_code == 1, result.stderr
        error = the_error(result.stderr)
        assert "No space left on device" in error and str(folder) in error
        assert not list(folder.rglob("*.part*"))
        disk.free()
        assert CliRunner().invoke(app, ["prepare", *settings]).exit_code == 0
        corpus = PreparedCorpus(folder)
        assert len(corpus.train) + len(corpus.validation) + len(corpus.test) == 16
        for clip in corpus.train:
            assert len(read_audio(clip.source)[0]) == clip.samples


def test_full_disk_keeps_the_files_that_were_there(
    disk: Disk, train: Train, tmp_path: Path, inject: Ledger
) -> None:
    """The file that was there before is still whole."""
    assert train(tmp_path / "run", 1, "smoke").exit_code == 0
    run = disk.root / "run"
    shutil.copytree(tmp_path / "run", run)
    (run / "metrics.json").write_text("{}\n")
    exported = CliRunner().invoke(app, ["export", str(run)])
    assert exported.exit_code == 0, exported.stderr
    graphs = {path: path.read_bytes() for path in (run / "onnx").iterdir()}
    old = disk.root / "old.wav"
    soundfile.write(old, np.zeros(50), 8000)
    before = old.read_bytes()
    commands = [
        ["synthesize", str(run), "one two three", "-o", str(old)],
        ["synthesize", str(run), "one two three", "-o", str(disk.root / "new.flac")],
        ["synthesize", str(run), "one two three", "-o", str(old), "--plot"],
        ["evaluate", str(run)],
        ["export", str(run)],
    ]
    for command in commands:
        with inject("full disk: synthesize, evaluate, export"):
            disk.leave(0)
            result = CliRunner().invoke(app, command)
            assert result.exit_code == 1, result.output
            assert "No space left on device" in the_error(result.stderr)
            assert not list(disk.root.rglob("*.part*"))
            assert old.read_bytes() == before and not (disk.root / "new.flac").exists()
            assert (run / "metrics.json").read_text() == "{}\n"
            assert {path: path.read_bytes() for path in (run / "onnx").iterdir()} == graphs
