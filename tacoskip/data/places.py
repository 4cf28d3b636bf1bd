"""Bytes of a corpus' files, in a folder or on a web server, whole or a span of them.

A server must answer Range requests, as object storage does. One that is away is asked again, with
pauses that double, and then named in one line.
"""

import os
import time
import urllib.error
import urllib.request
import warnings
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from tacoskip.data.download import cause_of, is_permanent
from tacoskip.data.errors import CorpusError
from tacoskip.data.utterance import find_inside

ATTEMPTS = 5
PAUSE = 1.0  # seconds before the second attempt; twice as long before each further one
SILENCE = 30.0  # seconds without a byte after which a connection counts as broken
LONGEST = 300.0  # seconds that one answer may take
BLOCK = 1 << 16


def is_url(place: str) -> bool:
    """Whether a place is on a web server."""
    return place.lower().startswith(("http://", "https://"))


def shown(source: str) -> str:
    """Return a source without its query, which may hold a token."""
    return source.partition("?")[0] if is_url(source) else source


def file_of(place: str, name: str) -> str:
    """Return the path or URL of a file of a place; a URL's query stays at its end.

    Raises CorpusError for a link that leads out of the folder.
    """
    if is_url(place):
        parts = urlsplit(place)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))
    found = find_inside(Path(place).resolve(), name)
    if isinstance(found, str):
        raise CorpusError(f"{place}/{name}: {found}")
    return str(found)


def read_whole(source: str, most: int) -> bytes:
    """Return the content of a file; CorpusError when it has more than `most` bytes, or cannot be
    read.
    """
    if is_url(source):
        content = _asked(source, {}, most)
    else:
        try:
            with open(source, "rb") as file:
                content = file.read(most + 1)
        except OSError as error:
            raise CorpusError(f"cannot read {source}: {error.strerror}") from error
    if len(content) > most:
        raise CorpusError(f"{shown(source)}: expected at most {most:,} bytes, got more")
    return content


def read_span(source: str, offset: int, size: int, total: int) -> bytes:
    """Return `size` bytes from `offset` on of a file that has `total`, or raise CorpusError."""
    if is_url(source):
        return _asked(source, {"Range": f"bytes={offset}-{offset + size - 1}"}, size, total)
    try:
        with open(source, "rb") as file:
            held = os.fstat(file.fileno()).st_size
            if held != total:
                raise CorpusError(_other_size(source, total, held))
            return os.pread(file.fileno(), size, offset)
    except OSError as error:
        raise CorpusError(f"cannot read {source}: {error.strerror}") from error


def _asked(url: str, headers: dict[str, str], most: int, total: int = 0) -> bytes:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _answer(url, headers, most, total)
        except (OSError, HTTPException) as error:
            cause = cause_of(error)
            if isinstance(error, urllib.error.HTTPError):
                cause = f"HTTP {error.code} {cause}"
            if is_permanent(error) or attempt == ATTEMPTS:
                tries = "1 attempt" if attempt == 1 else f"{attempt} attempts"
                raise CorpusError(f"cannot read {shown(url)}: {cause} ({tries})") from error
            server = urlsplit(url).netloc.rpartition("@")[2]
            warnings.warn(f"{server} does not answer ({cause}), asking again", stacklevel=2)
            time.sleep(PAUSE * 2 ** (attempt - 1))
    raise AssertionError("the last attempt returns or raises")


def _answer(url: str, headers: dict[str, str], most: int, total: int) -> bytes:
    """Ask once. OSError and HTTPException mean that asking again may help."""
    request = urllib.request.Request(url, headers={"User-Agent": "tacoskip", **headers})
    with urllib.request.urlopen(request, timeout=SILENCE) as response:
        if total:
            _check_span(response, url, headers["Range"].removeprefix("bytes="), total)
        content, ends = bytearray(), time.monotonic() + LONGEST
        while len(content) <= most and (block := response.read1(BLOCK)):
            content += block
            if time.monotonic() > ends:
                raise TimeoutError(f"the answer takes longer than {LONGEST:g} s")
        promised = response.headers.get("Content-Length", "")
        if len(content) <= most and promised.isdigit() and len(content) < int(promised):
            raise OSError(f"the connection ended at {len(content):,} of {int(promised):,} bytes")
    return bytes(content)


def _check_span(response: HTTPResponse, url: str, span: str, total: int) -> None:
    if response.status != 206:
        raise CorpusError(
            f"{shown(url)}: expected a part of the file, got all of it: the server does not know "
            "Range requests (object storage, nginx and Apache do)"
        )
    found, _, held = response.headers.get("Content-Range", "").partition("/")
    if held.isdigit() and int(held) != total:
        raise CorpusError(_other_size(shown(url), total, int(held)))
    if found != f"bytes {span}":
        raise CorpusError(f"{shown(url)}: expected bytes {span}, got {found!r}")


def _other_size(source: str, expected: int, got: int) -> str:
    return f"{source}: expected {expected:,} bytes, got {got:,}: it is cut short or another file"
