"""Files written whole or not at all, read with a limit; folders that one process writes to."""

import errno
import fcntl
import math
import os
import re
import shutil
import socket
import stat
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOCK = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # a file system without them


class FolderInUse(ValueError):
    """Another process writes to a folder; the message names it."""


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[int]:
    """Hold a folder for this process alone; the folder is made where there is none.

    An advisory lock on FOLDER/.lock: the system releases it however the process ends, and file
    systems shared by machines (NFS, Lustre) keep it too. The file stays. Readers need no lock.
    Yields its file descriptor: a child process that inherits it holds the folder, too. Raises
    FolderInUse with the holder's process, machine and time.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666)  # the file is emptied

    with open(Path(folder) / LOCK, "a+", errors="replace", opener=opener) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            raise FolderInUse(f"{folder} is in use by {holder}: wait for it, or end it") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            warnings.warn(f"{folder} is on a file system without locks", stacklevel=3)
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        file.flush()
        try:
            yield file.fileno()
        finally:
            file.truncate(0)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process changes a file of a folder; where locks exist."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def lock_holder(folder: str | Path) -> str:
    """Return the process, machine and time of who holds a folder, "" for nobody.

    It reads what `folder_lock` wrote and takes no lock, so a process that ended without a chance to
    clean up is still named if it was on another machine.
    """
    try:
        holder = read_regular(Path(folder) / LOCK, 1000).decode(errors="replace").strip()
    except OSError:
        return ""
    found = re.match(r"process (\d+) on (\S+) since ", holder)
    if found and found[2] == socket.gethostname():
        try:
            os.kill(int(found[1]), 0)  # sends nothing
        except ProcessLookupError:
            return ""
        except PermissionError:  # of another user
            pass
    return holder


def user_cache() -> Path:
    """Return a folder that only this user can write; raises OSError where there is none."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tacoskip"
    except RuntimeError:  # a user without HOME and without an entry in passwd
        raise OSError("no home folder to keep it in: set XDG_CACHE_HOME") from None
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise OSError(f"{folder} can be written by others: chmod 700 it")
    return folder


def raised_limit(limit: int) -> int:
    """Return a limit times the environment variable TACOSKIP_LIMITS, a factor (default 1)."""
    text = os.environ.get("TACOSKIP_LIMITS", "1")
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise ValueError(f"expected TACOSKIP_LIMITS, a factor above 0, got {text!r}")
    return int(limit * factor)


def open_regular(path: str | Path, limit: int) -> BinaryIO:
    """Open a regular file of at most `limit` bytes (times TACOSKIP_LIMITS) for reading.

    A FIFO, device or folder, which may hang or never end, raises ValueError that names it, as does
    a larger file; OSError where there is none.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)  # else opening a FIFO waits for a writer

    file = open(path, "rb", opener=opener)  # noqa: SIM115 (the caller closes it)
    try:
        status, limit = os.fstat(file.fileno()), raised_limit(limit)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: expected a regular file, got a FIFO or device")
        if status.st_size > limit:
            raise ValueError(
                f"{path}: expected at most {limit:,} bytes, got {status.st_size:,}; if it is "
                "meant, set TACOSKIP_LIMITS=10 (times as much)"
            )
    except BaseException:
        file.close()
        raise
    return file


def read_regular(path: str | Path, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes, as `open_regular` checks it."""
    with open_regular(path, limit) as file:
        return file.read(raised_limit(limit))


def read_bounded(file: BinaryIO, name: str | Path, limit: int) -> bytes:
    """Return what a file or stream still holds; ValueError beyond `limit` bytes."""
    limit = raised_limit(limit)
    content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{name}: expected at most {limit:,} bytes (TACOSKIP_LIMITS=10 raises it)")
    return content


def _beside(path: Path, end: str) -> Path:
    """Return a name of this process next to a path, within the 255 bytes of most file systems."""
    stem = os.fsdecode(os.fsencode(path.name)[:200])
    return path.with_name(f"{stem}.{os.getpid()}.{end}")


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; it replaces `path` when the block ends without an error.

    Raises OSError, named for `path`, when the disk is full, ValueError for a device; nothing
    half-written stays.
    """
    path = Path(path)
    if path.is_char_device() or path.is_block_device():  # root could make a file of /dev/null
        raise ValueError(f"{path}: expected a file to write, got a device")
    part = _beside(path, "part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder to write into; it replaces `path` when the block ends without an error.

    A link is followed. Raises ValueError where something else than a folder is in the way.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path}: expected a folder to write, got a file or device")
    part, old = _beside(path, "part"), _beside(path, "old")
    part.mkdir(parents=True)
    try:
        yield part
        if path.exists():
            os.replace(path, old)
        os.replace(part, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file atomically; text is written as UTF-8. Raises OSError when the disk is full."""
    with whole_file(path) as part:
        part.write_bytes(
            content.encode(errors="backslashreplace") if isinstance(content, str) else content
        )


def decode_text(raw: bytes, name: str | Path) -> str:
    """Return UTF-8 as text; raises ValueError with the first byte that is something else."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{raw[error.start]:02x} at {error.start}"
        raise ValueError(f"{name}: expected UTF-8 text, got {byte}") from None


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a matplotlib figure as png, atomically."""
    with whole_file(path) as part:
        figure.savefig(part, dpi=110, format="png")
