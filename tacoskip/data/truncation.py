"""Files that end before they should, by what their headers promise.

libsndfile reads such a file as a shorter one. A wav is checked by `tacoskip.audio`, flac and mp3
betray themselves in decoding; here are the containers that do neither.
"""

import struct
from pathlib import Path

UNKNOWN = (0, 0xFFFFFFFF)  # what a writer into a pipe leaves as the size
LONGEST_PAGE = 27 + 255 + 255 * 255


def cut_short(path: Path) -> str | None:
    """Return a phrase when an aiff, au, w64 or ogg file is cut short, else None."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(24)
        if head[:4] == b"OggS":
            stream.seek(max(0, size - LONGEST_PAGE))
            return _ogg(stream.read())
    promised = 0
    if head[:4] == b"FORM" and len(head) >= 8:
        (length,) = struct.unpack(">I", head[4:8])
        promised = 0 if length in UNKNOWN else length + 8
    elif head[:4] == b".snd" and len(head) >= 12:
        start, length = struct.unpack(">II", head[4:12])
        promised = 0 if length in UNKNOWN else start + length
    elif head[:4] == b"riff" and len(head) == 24:
        (promised,) = struct.unpack("<Q", head[16:24])
    if promised > size:
        return f"expected {promised} bytes, got {size}"
    return None


def _ogg(tail: bytes) -> str | None:
    """An ogg stream ends with a whole page that is flagged as its last (RFC 3533, section 6)."""
    start = tail.rfind(b"OggS")
    page = tail[start:]
    if start < 0 or len(page) < 27 or len(page) < 27 + page[26]:
        return "expected a last ogg page, got part of one"
    if not page[5] & 4:
        return "expected the last ogg page, the stream stops before it"
    length = 27 + page[26] + sum(page[27 : 27 + page[26]])
    return (
        None if len(page) >= length else f"expected an ogg page of {length} bytes, got {len(page)}"
    )
