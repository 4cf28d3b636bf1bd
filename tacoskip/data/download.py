"""Files from the web: resumed where they broke off, checked against a checksum, unpacked safely."""

import hashlib
import json
import shutil
import socket
import tarfile
import time
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
                if _is_permanent(error) or attempt == ATTEMPTS:
                    had = part.stat().st_size if part.exists() else 0
                    raise CorpusError(
                        f"download of {url} stopped after {had:,} bytes ({_cause(error)}); run "
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


def _is_permanent(error: Exception) -> bool:
    """Whether the server does not have the file, or there is no such server."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in (403, 404, 410)
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


def _cause(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__


def unpack(archive: Path, folder: Path, progress: Progress | None = None) -> Path:
    """Unpack a tar or zip archive into `folder`, which appears whole or not at all.

    No member may leave the folder: absolute paths, `..`, links and devices end it.
    Raises CorpusError when the archive is damaged or holds such a member.
    """
    progress = progress or (lambda done, total, note: None)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, part, progress)
        else:
            _untar(archive, part, progress)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise CorpusError(f"cannot unpack {archive}: {_cause(error)}") from error
    except CorpusError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    part.replace(folder)
    return folder


def _inside(name: str, archive: Path) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise CorpusError(f"{archive} holds a path that leaves its folder: {name[:100]!r}")
    return name


def _unzip(archive: Path, folder: Path, progress: Progress) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for done, member in enumerate(members, 1):
            _inside(member.filename, archive)
            file.extract(member, folder)
            progress(done, len(members), f"unpack {archive.name} (files)")


def _untar(archive: Path, folder: Path, progress: Progress) -> None:
    # Early releases of Python 3.11 know no filters; what they would allow is refused below.
    safety: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(archive) as file:
        for done, member in enumerate(file, 1):
            _inside(member.name, archive)
            if not (member.isfile() or member.isdir()):
                raise CorpusError(f"{archive} holds a link or device: {member.name[:100]!r}")
            file.extract(member, folder, set_attrs=False, **safety)
            progress(done, 0, f"unpack {archive.name} (files)")
