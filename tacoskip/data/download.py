"""Archives from the web: fetched by pooch, checked against a checksum, unpacked safely."""

import logging
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, Self

from tacoskip.data.errors import CorpusError

Progress = Callable[[int, int, str], None]

RETRIES = 2
TIMEOUT = 60.0  # seconds without a byte
BLOCK = 1 << 20

RATIO, SMALL = 100, 100_000_000  # an archive unpacks to RATIO times its size, or SMALL bytes
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
    bar: Any = _bar(f"download {path.name} (bytes)", progress) if progress else False
    downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=BLOCK, timeout=TIMEOUT)
    try:
        return Path(repository.fetch(path.name, downloader=downloader))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        cause = " ".join(str(error).split()) or type(error).__name__
        raise CorpusError(
            f"cannot download {url} ({cause}); run again, or set data.root to a folder that is "
            "already here"
        ) from error


def _bar(note: str, progress: Progress) -> SimpleNamespace:
    """Return a progress bar as pooch calls it."""
    bar = SimpleNamespace(total=0, done=0, close=lambda: None)

    def advance(count: int) -> None:
        bar.done += count
        progress(min(bar.done, bar.total or bar.done), bar.total, note)

    bar.update, bar.reset = advance, lambda: vars(bar).update(done=0)
    return bar


def unpack(archive: Path, folder: Path, progress: Progress | None = None) -> Path:
    """Unpack a tar or zip archive into `folder`, which appears whole or not at all.

    Raises CorpusError when the archive is damaged, when a member would leave the folder (absolute
    paths, `..`), is a link or a device, or when it unpacks to more than the disk holds or than a
    corpus can be.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    left = min(max(SMALL, RATIO * archive.stat().st_size), shutil.disk_usage(part).free)
    try:
        for done, (name, size, is_plain, extract) in enumerate(_members(archive), 1):
            path = PurePosixPath(name.replace("\\", "/"))
            left -= size
            refused = ""
            if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
                refused = "holds a path that leaves its folder"
            elif not is_plain:
                refused = "holds a link or device"
            elif left < 0:
                refused = "unpacks to far more than its size, or than the disk holds"
            if refused:
                raise CorpusError(f"{archive} {refused}: {name[:100]!r}")
            extract(part)
            if progress:
                progress(done, 0, f"unpack {archive.name} (files)")
        part.replace(folder)
    except CorpusError:
        raise
    except Exception as error:  # a damaged archive can make its readers fail in any way
        cause = " ".join(str(error).split()) or type(error).__name__
        raise CorpusError(f"cannot unpack {archive}: {cause}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _members(archive: Path) -> Iterator[tuple[str, int, bool, Callable[[Path], object]]]:
    """Yield each member's name, bytes, whether it is a file or folder, and what extracts it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
                yield entry.filename, entry.file_size, plain, partial(packed.extract, entry)
        return
    with tarfile.open(archive, tarinfo=_Member) as file:
        # Early releases of Python 3.11 know no filters.
        file.extraction_filter = getattr(tarfile, "data_filter", None)
        for member in file:
            plain = (member.isfile() or member.isdir()) and not member.issparse()
            yield member.name, member.size, plain, partial(file.extract, member, set_attrs=False)


class _Member(tarfile.TarInfo):
    """A member whose extended header, which tarfile reads into memory whole, is of sane size."""

    @classmethod
    def frombuf(cls, *args: Any, **options: Any) -> Self:
        member = super().frombuf(*args, **options)
        if not member.isreg() and member.size > LARGEST_HEADER:
            raise tarfile.ReadError("an extended header of absurd size")
        return member
