"""Locks of folders, and files that are opened as regular files of a bounded size."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tacoskip.files import (
    FolderInUse,
    folder_lock,
    open_regular,
    read_regular,
    whole_folder,
    write_whole,
)

pytestmark = pytest.mark.hostile

HOLD = """
import sys, time
from tacoskip.files import folder_lock
with folder_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_writer_is_refused_until_the_first_is_killed(tmp_path):
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        try:
            with pytest.raises(FolderInUse) as refused, folder_lock(folder):
                pass
        finally:
            holder.kill()
    message = str(refused.value)
    assert f"process {holder.pid} on {os.uname().nodename} since 20" in message
    assert "\n" not in message
    mine = f"process {os.getpid()} on"
    with folder_lock(folder), pytest.raises(FolderInUse, match=mine), folder_lock(folder):
        pass


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_open_regular_refuses_what_is_no_file(tmp_path, kind):
    path = {"fifo": tmp_path / "fifo", "device": Path("/dev/zero"), "folder": tmp_path}[kind]
    if kind == "fifo":
        os.mkfifo(path)
    errors: list[BaseException] = []

    def opening() -> None:
        try:
            open_regular(path, 10).close()
        except (ValueError, OSError) as error:
            errors.append(error)

    thread = threading.Thread(target=opening, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive() and str(path) in str(errors[0])


def test_read_regular_is_bounded_and_the_limit_can_be_raised(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    assert read_regular(path, 10) == b"0123456789"
    with pytest.raises(ValueError, match=r"at most 9 bytes, got 10.*TACOSKIP_LIMITS"):
        read_regular(path, 9)
    monkeypatch.setenv("TACOSKIP_LIMITS", "1.5")
    assert len(read_regular(path, 9)) == 10
    monkeypatch.setenv("TACOSKIP_LIMITS", "much")
    with pytest.raises(ValueError, match="expected TACOSKIP_LIMITS"):
        read_regular(path, 9)


def test_devices_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root could make a file of /dev/null."""
    device = tmp_path / "device"
    device.touch()
    monkeypatch.setattr(Path, "is_char_device", lambda path: path.name == "device")
    with pytest.raises(ValueError, match="got a device"):
        write_whole(device, "text")
    with pytest.raises(ValueError, match="got a file or device"), whole_folder(device):
        pass
    assert device.read_bytes() == b"" and list(tmp_path.iterdir()) == [device]


def test_a_folder_behind_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with whole_folder(tmp_path / "link") as part:
        (part / "new").touch()
    assert (tmp_path / "folder" / "new").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]


def test_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    path, replace = tmp_path / "folder", os.replace
    path.mkdir()
    (path / "old").touch()

    def fail(source, target):
        if Path(source).suffix == ".part":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"), whole_folder(path) as part:
        (part / "new").touch()
    assert [one.name for one in tmp_path.rglob("*")] == ["folder", "old"]
