"""Recordings that end before their header says: what libsndfile does not notice.

The other formats: libsndfile's log, `io._SHORTER`.
"""

import re
from typing import BinaryIO

XING = re.compile(rb"(?:Xing|Info)\0\0\0[\x03\x07\x0b\x0f].{4}(.{4})", re.DOTALL)  # bytes of an mp3
LONGEST_PAGE = 27 + 255 + 255 * 255  # of an ogg stream
MOST_BLOCKS = 10_000  # of a VOC


def is_cut_short(file: BinaryIO, size: int) -> bool:
    """Whether an ogg, mp3, NIST or VOC file of `size` bytes is cut; False for other formats."""
    head = file.read(1024)
    if head.startswith((b"ID3", b"\xff")):
        # Tags, whose size has 7 bits a byte, are before the sound and its header.
        tags = 10 + sum(byte << 7 * place for place, byte in enumerate(head[9:5:-1]))
        start = tags if head.startswith(b"ID3") else 0
        file.seek(start)
        found = XING.search(file.read(1024))
        return found is not None and size - start < int.from_bytes(found[1])
    if head.startswith(b"OggS"):
        file.seek(max(0, size - LONGEST_PAGE))
        return not _ends_with_last_page(file.read())
    if head.startswith(b"NIST_1A"):
        fields = dict(re.findall(rb"^(\w+) -\w+ (\d+)", head, re.MULTILINE))
        names = (b"sample_count", b"channel_count", b"sample_n_bytes")
        samples, channels, width = (int(fields.get(name, b"1")) for name in names)
        return size < 1024 + samples * channels * width
    position = int.from_bytes(head[20:22], "little")
    for _ in range(MOST_BLOCKS if head.startswith(b"Creative Voice File") else 0):
        file.seek(position)
        block = file.read(4)  # its kind (0 is the end), 3 bytes of length
        if not block or block[0] == 0:
            return False
        position += 4 + int.from_bytes(block[1:], "little")
        if position > size:
            return True
    return False


def _ends_with_last_page(tail: bytes) -> bool:
    """Whether an ogg stream ends with a page that is whole and flagged as the last (RFC 3533)."""
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or not page[5] & 4 or len(page) < 27 + page[26]:
        return False
    return len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
