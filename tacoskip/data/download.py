"""Archives from the web: fetched by pooch, checked against a checksum, unpacked safely."""

import logging
import shutil
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from tacoskip.data.errors import CorpusError

Progress = Callable[[int, int, str], None]

RETRIES = 2
TIMEOUT = 60.0  # seconds without a byte
BLOCK = 1 << 20

# What no corpus exceeds. An archive may unpack to RATIO times its size, or to SMALL bytes.
MEMBERS = 1_000_000
RATIO = 100
SMALL = 100_000_000
LARGEST_HEADER = 1 << 20  # bytes, of an extended header of a tar


def fetch(url: str, path: Path, sha256: str = "", progress: Progress | None = None) -> Path:
    """Download `url` to `path` unless the right file is there already.

    The file appears whole or not at all; a download that fails is tried again, RETRIES times.
    Raises CorpusError, in one line, when the file cannot be had or has another checksum.
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    known = f"sha256:{sha256}" if sha256 else None
    repository = pooch.create(
        path.parent,
        base_url="",
        registry={path.name: known},
        urls={path.name: url},
        retry_if_failed=RETRIES,
    )
    bar: Any = _Bar(path.name, progress) if progress else False
    downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=BLOCK, timeout=TIMEOUT)
    try:
        return Path(repository.fetch(path.name, downloader=downloader))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        cause = " ".join(str(error).split()) or type(error).__name__
        raise CorpusError(
            f"cannot download {url} ({cause}); run again, or set data.root to a folder that is "
            "already here"
        ) from error


class _Bar:
    """A progress bar as pooch calls it."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.note, self.progress = f"download {name} (bytes)", progress
        self.total, self.done = 0, 0

    def update(self, count: int) -> None:
        self.done += count
        self.progress(min(self.done, self.total or self.done), self.total, self.note)

    def reset(self) -> None:
        """Begin again from nothing."""
        self.done = 0

    def close(self) -> None:
        """Nothing is open."""


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
        cause = " ".join(str(error).split()) or type(error).__name__
        raise CorpusError(f"cannot unpack {archive}: {cause}") from error
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
            raise self._refused("unpacks to far more than its size", name)
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
        if self.type in _EXTENDED and self.size > LARGEST_HEADER:
            raise tarfile.ReadError("an extended header of absurd size")
        return super()._proc_member(file)  # type: ignore[misc]


_EXTENDED = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
