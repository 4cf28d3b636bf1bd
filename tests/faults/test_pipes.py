"""A pipe, or a device without an end, in the place of a file: refused at once, and not read."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from tacoskip.ablation.collect import collect
from tacoskip.ablation.plan import DONE, FAILED, Plan, PlannedRun
from tacoskip.config import load_config, to_dict
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.loading import load
from tacoskip.recognition.arpa import arpa_words
from tacoskip.run_folder import RunError
from tacoskip.run_folder.exported import ExportManifest
from tacoskip.training.board import SUFFIX, Board

from .conftest import Ledger

pytestmark = pytest.mark.faults

SECONDS = 60.0


def compared(folder: Path) -> None:
    """Compare a folder of runs, each of which must be left out with a reason."""
    for run in collect(folder)[1]:
        assert run.state == FAILED
        raise ValueError(run.error)


def exported(folder: Path) -> None:
    manifest = ExportManifest(to_dict(load_config("smoke_asr")), [], {"network": "0"}, [], [])
    (folder / "export.json").write_text(json.dumps(asdict(manifest)))
    load(folder)


def planned(folder: Path) -> None:
    runs = [PlannedRun("a", "a", 0, DONE)]
    Plan("smoke", "highway", "loss", ["a"], "none", [], runs=runs).save(folder)
    compared(folder)


def plain(folder: Path) -> None:
    (folder / "a" / "config.yaml").write_text("block: plain\n")
    compared(folder)


# File, what reads it, and the error; None: the file is left alone.
PLACES: dict[str, tuple[Callable[[Path], object], type[Exception] | None]] = {
    "checkpoints/step-00000001.pt": (lambda folder: load(folder, "cpu"), RunError),
    "report.json": (PreparedCorpus, CorpusError),
    "lm.arpa": (lambda folder: arpa_words(folder / "lm.arpa"), ValueError),
    "network.onnx": (exported, ValueError),
    "ablation.json": (collect, ValueError),
    "a/result.json": (planned, ValueError),
    "a/events.out.tfevents.1.a.1.0": (plain, ValueError),
    "probes.json": (lambda folder: Board(folder, resumed=1, saved={}).close(), None),
    f"events.out.tfevents.1.a.1.0{SUFFIX}": (lambda folder: Board(folder, 1, {}).close(), None),
}


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", PLACES)
def test_pipe_or_device_in_the_place_of_a_file_is_refused(
    name: str, kind: str, tmp_path: Path, inject: Ledger
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    action, expected = PLACES[name]
    raised = list[Exception]()

    def act() -> None:
        try:
            action(tmp_path)
        except Exception as error:
            raised.append(error)

    with inject("pipes and devices in the place of files"):
        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        thread.join(SECONDS)
        assert not thread.is_alive(), "it waits"
        if expected is None:
            assert not raised
        else:
            assert isinstance(raised[0], expected) and "\n" not in str(raised[0])
