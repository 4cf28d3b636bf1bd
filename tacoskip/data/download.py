"""Files from the web: resumed where they broke off, checked against a checksum, unpacked safely."""

import errno
import hashlib
import json
import shutil
import socket
import stat
import tarfile
import time
import unicodedata
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any

from tacoskip.data.errors import CorpusError
from tacoskip.data.journal import write_atomically

Progress = Callable[[int, int, str], None]

ATTEMPTS = 5
BLOCK = 1 << 20
TIMEOUT = 60.0

# What no corpus exceeds. An archive may unpack to RATIO times its size, or to SMALL bytes.
MEMBERS = 1_000_000
RATIO = 100
SMALL = 100_000_000


def fetch(
    url: str,
    path: Path,
    sha256: str = "",
    progress: Progress | None = None,
    pause: float = 2.0,
) -> Path:
    """Download `url` to `path` unless the right file is there already.

    What came before an interruption is kept in `path`.part and continued by a Range request, within
    one call (up to 5 attempts, `pause` seconds apart and growing) and by the next one. A file that
    does not have the checksum is removed. Without `sha256` the first download's checksum is noted
    in checksums.json beside the file, and later ones must have the same.
    Raises CorpusError, in one line, when the file cannot be had.
    """
    progress = progress or (lambda done, total, note: None)
    path.parent.mkdir(parents=True, exist_ok=True)
    expected = sha256 or _noted(path)
    if not path.exists():
        part = path.with_name(path.name + ".part")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _continue(url, part, progress, path.name)
                break
            except (OSError, HTTPException) as error:
                if is_permanent(error) or attempt == ATTEMPTS:
                    had = part.stat().st_size if part.exists() else 0
                    raise CorpusError(
                        f"download of {url} stopped after {had:,} bytes ({cause_of(error)}); run "
                        "again to resume, or set data.root to a folder that is already here"
                    ) from error
                time.sleep(pause * attempt)
        _verify(part, expected, url, progress)
        part.replace(path)
        part.with_name(part.name + ".tag").unlink(missing_ok=True)
    else:
        _verify(path, expected, url, progress)
    return path


def _continue(url: str, part: Path, progress: Progress, name: str) -> None:
    """Append to `part` what is missing of it; raises OSError when the connection breaks."""
    tag_file = part.with_name(part.name + ".tag")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "tacoskip"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag_file.exists():  # a file that changed on the server is sent whole instead
            request.add_header("If-Range", tag_file.read_text())
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range", "").endswith(f"/{have}"):
            return  # it was whole already
        part.unlink()
        raise OSError("the server's file is shorter than what was downloaded") from error
    with response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise OSError("the server answered another range than the one asked for")
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else 0
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if tag and not tag.startswith("W/"):
            tag_file.write_text(tag)
        free = shutil.disk_usage(part.parent).free
        if total - have > free:
            raise CorpusError(
                f"{name} needs {total - have:,} bytes, {part.parent} has {free:,} free"
            )
        with part.open("ab" if resumed else "wb") as out:
            while block := response.read(BLOCK):
                out.write(block)
                have += len(block)
                progress(have, total, f"download {name} (bytes)")
        if total and have < total:
            raise OSError(f"the connection ended at {have:,} of {total:,} bytes")


def is_permanent(error: Exception) -> bool:
    """Whether the server does not have the file, there is no such server, or no room here."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in (403, 404, 410)
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return True
    return isinstance(getattr(error, "reason", None), socket.gaierror)


def _verify(path: Path, expected: str, url: str, progress: Progress) -> None:
    total, done, digest = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
            done += len(block)
            progress(done, total, f"check {path.name.removesuffix('.part')} (bytes)")
    actual = digest.hexdigest()
    if not expected:
        _note(path, actual)
    elif actual != expected:
        path.unlink()
        path.with_name(path.name + ".tag").unlink(missing_ok=True)
        raise CorpusError(f"{url}: expected sha256 {expected}, got {actual}; removed, run again")


def _noted(path: Path) -> str:
    try:
        return str(json.loads((path.parent / "checksums.json").read_text())[path.name])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _note(path: Path, checksum: str) -> None:
    file = path.parent / "checksums.json"
    noted = json.loads(file.read_text()) if file.exists() else {}
    noted[path.name.removesuffix(".part")] = checksum
    write_atomically(file, json.dumps(noted, indent=1) + "\n")


def cause_of(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__


def unpack(archive: Path, folder: Path, progress: Progress | None = None) -> Path:
    """Unpack a tar or zip archive into `folder`, which appears whole or not at all.

    No member may leave the folder or stand in the place of another: absolute paths, `..`, links,
    devices, names that differ in case or accents' encoding alone end it, and so does what unpacks
    to more than the disk holds or than a corpus can be.
    Raises CorpusError when the archive is damaged or holds such a member.
    """
    progress = progress or (lambda done, total, note: None)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _Unpacking(archive, part, progress).run()
        part.replace(folder)
    except CorpusError:
        raise
    except Exception as error:  # a damaged archive can make its readers fail in any way
        raise CorpusError(f"cannot unpack {archive}: {cause_of(error)}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


class _Unpacking:
    """One archive on its way into `folder`; `run` raises CorpusError for what it may not hold."""

    def __init__(self, archive: Path, folder: Path, progress: Progress) -> None:
        self.archive, self.folder, self.progress = archive, folder, progress
        self.left = max(SMALL, RATIO * archive.stat().st_size)
        self.free = shutil.disk_usage(folder).free
        self.files: set[str] = set()
        self.folders: set[str] = set()
        self.entries = 0

    def run(self) -> None:
        if zipfile.is_zipfile(self.archive):
            self._unzip()
        else:
            self._untar()

    def admit(self, name: str, size: int, is_folder: bool) -> None:
        """Raise CorpusError unless a member of this name and size may be unpacked."""
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
            raise self._refused("holds a path that leaves its folder", name)
        # Where a disk tells neither case nor encoding apart, one file would replace the other.
        plain = unicodedata.normalize("NFKC", str(path)).casefold()
        above = {str(parent) for parent in PurePosixPath(plain).parents}
        if plain in self.files or above & self.files or (plain in self.folders and not is_folder):
            raise self._refused("holds two members of one name", name)
        self.folders |= above
        (self.folders if is_folder else self.files).add(plain)
        self.entries += 1
        if self.entries > MEMBERS:
            raise self._refused(f"holds more than {MEMBERS:,} members", name)
        self.left -= size
        self.free -= size
        if self.left < 0:
            raise self._refused("unpacks to far more than its size, as no corpus does", name)
        if self.free < 0:
            raise self._refused(f"unpacks to more than {self.folder.parent} has free", name)

    def _refused(self, what: str, name: str) -> CorpusError:
        return CorpusError(f"{self.archive} {what}: {name[:100]!r}")

    def _unzip(self) -> None:
        with zipfile.ZipFile(self.archive) as file:
            members = file.infolist()
            for member in members:
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise self._refused("holds a link or device", member.filename)
                self.admit(member.filename, member.file_size, member.is_dir())
            for done, member in enumerate(members, 1):
                file.extract(member, self.folder)
                self.progress(done, len(members), f"unpack {self.archive.name} (files)")

    def _untar(self) -> None:
        # Early releases of Python 3.11 know no filters; what they would allow is refused here.
        safety: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        with tarfile.open(self.archive, tarinfo=_Member) as file:
            for done, member in enumerate(file, 1):
                if not (member.isfile() or member.isdir()) or member.issparse():
                    raise self._refused("holds a link or device", member.name)
                self.admit(member.name, member.size, member.isdir())
                file.extract(member, self.folder, set_attrs=False, **safety)
                self.progress(done, 0, f"unpack {self.archive.name} (files)")


class _Member(tarfile.TarInfo):
    """A member whose extended header, which tarfile reads into memory whole, is of sane size."""

    def _proc_member(self, file: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED and self.size > BLOCK:
            raise tarfile.ReadError("an extended header of absurd size")
        return super()._proc_member(file)  # type: ignore[misc]


_EXTENDED = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
