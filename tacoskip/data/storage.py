"""Bytes of a corpus' files: in a folder, on a web server, or in any storage that fsspec knows.

A folder is read as it is, http(s) by requests, every other address (s3://, gs://, ...) by fsspec
and the package that it names. A server that does not answer is asked again, with pauses that
double.
"""

import re
import time
import warnings
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, urlsplit, urlunsplit

from tacoskip.data.errors import CorpusError
from tacoskip.data.utterance import find_inside
from tacoskip.files import open_regular, raised_limit
from tacoskip.messages import without_secrets

if TYPE_CHECKING:
    from requests import Session

ATTEMPTS = 5
PAUSE = 1.0  # seconds before the second attempt; twice as long before each further one
TIMEOUT = 30.0  # seconds without a byte after which a connection counts as broken
LARGEST = 1 << 30  # bytes of a file or span that no corpus of ours exceeds
BLOCK = 1 << 16
HTTP = ("http://", "https://")
CONNECTIONS = 32


def is_remote(place: str) -> bool:
    """Whether a place is an address (https://, s3://, ...) and not a folder."""
    return "://" in place


def file_of(place: str, name: str) -> str:
    """Return the path or address of a file of a place; a query stays at the address' end.

    Raises CorpusError for a link that leads out of the folder.
    """
    if is_remote(place):
        parts = urlsplit(place)
        file = quote(name) if place.startswith(HTTP) else name
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{file}"))
    return str(find_inside(Path(place).resolve(), name))


def read(source: str, offset: int = 0, size: int | None = None, largest: int = LARGEST) -> bytes:
    """Return a file, or `size` bytes of it from `offset` on (fewer where it ends).

    Raises CorpusError, in one line, when it cannot be read or has more than `largest` bytes.
    """
    name, most = without_secrets(source), raised_limit(largest)
    try:
        if source.startswith(HTTP):
            content = _get(source, offset, size, most)
        else:
            with _open(source, largest) as file:
                file.seek(offset)
                content = file.read(most + 1 if size is None else size)
    except (OSError, ValueError, ImportError) as error:
        cause = getattr(error, "strerror", None) or " ".join(str(error).split())
        for part in filter(None, re.split("[?#;]", source)[1:]):  # fsspec names the whole address
            cause = cause.replace(part, "...")
        raise CorpusError(f"cannot read {name}: {cause}") from error
    if len(content) > most:
        raise CorpusError(f"{name}: expected at most {most:,} bytes, got more")
    return content


def _open(source: str, largest: int) -> BinaryIO:
    if not is_remote(source):
        return open_regular(source, largest)
    import fsspec

    file: BinaryIO = fsspec.open(source, "rb", cache_type="none").open()
    return file


@cache
def _session() -> "Session":
    from requests import Session
    from requests.adapters import HTTPAdapter

    session = Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
    return session


def _get(url: str, offset: int, size: int | None, largest: int) -> bytes:
    from requests import RequestException

    name = without_secrets(url)
    span = {} if size is None else {"Range": f"bytes={offset}-{offset + size - 1}"}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _session().get(url, headers=span, timeout=TIMEOUT, stream=True) as response:
                response.raise_for_status()
                if span and response.status_code != 206:
                    raise CorpusError(
                        f"{name}: expected a part of the file, got all of it: the server does not "
                        "answer Range requests (object storage, nginx and Apache do)"
                    )
                return b"".join(islice(response.iter_content(BLOCK), largest // BLOCK + 1))
        except (RequestException, OSError) as error:
            status = getattr(getattr(error, "response", None), "status_code", 0)
            cause = f"HTTP {status}" if status else type(error).__name__
            if attempt == ATTEMPTS or (400 <= status < 500 and status not in (408, 429)):
                tries = f"{attempt} attempt{'s' * (attempt > 1)}"
                raise CorpusError(f"cannot read {name}: {cause} ({tries})") from error
            server = urlsplit(url).netloc.rpartition("@")[2]
            warnings.warn(f"{server} does not answer ({cause}), asking again", stacklevel=2)
            time.sleep(PAUSE * 2 ** (attempt - 1))
    raise AssertionError("the last attempt returns or raises")
