"""A checkpoint counts the events that are on the disk, and no others."""

import errno
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from tacoskip.training.board import Board


def scalars(run: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run)).Reload()
    return [(e.step, e.value) for e in events.Scalars("train/loss")]


def test_events_after_the_saved_sizes_are_cut_off(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.scalars("train", {"loss": 1.0}, 1)
    saved = board.save()
    board.scalars("train", {"loss": 2.0}, 1)
    board.close()
    stranger = tmp_path / "events.out.tfevents.1.stranger"
    stranger.write_bytes(b"not ours")
    again = Board(tmp_path, resumed=1, saved=saved)
    again.scalars("train", {"loss": 3.0}, 2)
    again.close()
    assert stranger.read_bytes() == b"not ours"
    stranger.unlink()
    assert scalars(tmp_path) == [(1, 1.0), (2, 3.0)]


@pytest.mark.hostile
def test_a_clock_set_back_hides_no_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(tmp_path)
    board.scalars("train", {"loss": 1.0}, 1)
    saved = board.save()
    board.close()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 2 * 86_400)
    again = Board(tmp_path, resumed=1, saved=saved)
    again.scalars("train", {"loss": 2.0}, 2)
    again.close()
    assert scalars(tmp_path) == [(1, 1.0), (2, 2.0)]


@pytest.mark.hostile
def test_board_needs_no_undocumented_part_of_its_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version may lack the clock of TensorBoard's files, or torch's `file_writer`."""
    monkeypatch.setattr("tacoskip.training.board.event_file_writer", SimpleNamespace())
    board = Board(tmp_path)
    names = ("add_scalar", "flush", "close")
    documented = SimpleNamespace(**{name: getattr(board.writer, name) for name in names})
    monkeypatch.setattr(board, "writer", documented)
    board.scalars("train", {"loss": 1.0}, 1)
    (size,) = board.save().values()
    assert size == next(tmp_path.iterdir()).stat().st_size
    board.close()
    assert scalars(tmp_path) == [(1, 1.0)]


def test_saving_reports_an_event_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writing thread reports it late."""
    board = Board(tmp_path)
    board.scalars("train", {"loss": 1.0}, 1)
    board.save()

    def full(self: RecordWriter, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def log_and_save() -> None:
        board.scalars("train", {"loss": 2.0}, 2)
        board.save()

    with pytest.raises(OSError, match="No space left"):
        log_and_save()
    board.close()
