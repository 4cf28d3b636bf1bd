"""A prepared clip, and several of one speaker joined to one utterance."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacoskip.audio import decode_audio, read_audio
from tacoskip.data.errors import CorpusError
from tacoskip.data.storage import is_remote, read, without_query

TEXTS = ("id", "speaker", "text", "normalized")  # of a line of a manifest, beside `samples`
PAUSE_LEVEL = 1e-4  # RMS of the noise in a pause: -80 dB, so that no frame is digital silence


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of a prepared corpus.

    source: file or URL of the flac, or of the tar that holds it at `span` (offset, bytes, CRC-32).
    text: as the corpus has it. normalized: as spoken words.
    """

    id: str
    source: str
    speaker: str
    text: str
    normalized: str
    samples: int
    sample_rate: int
    span: tuple[int, int, int] | None = None

    @property
    def duration(self) -> float:
        return self.samples / self.sample_rate

    @property
    def parts(self) -> tuple[tuple[float, "Clip"], ...]:
        """Clips with the second at which each begins."""
        return ((0.0, self),)

    @property
    def needs_fetching(self) -> bool:
        """Whether reading the clip asks a server."""
        return is_remote(self.source)

    def content(self) -> bytes:
        """Return the clip's flac file; CorpusError where it cannot be read or is damaged."""
        if self.span is None:
            return read(self.source)
        offset, size, checksum = self.span
        content = read(self.source, offset=offset, size=size)
        if len(content) != size or zlib.crc32(content) != checksum:
            name = without_query(self.source)
            raise CorpusError(f"{name}: damaged at byte {offset:,}, clip {self.id}")
        return content

    def load(self, content: bytes | None = None) -> NDArray[np.float32]:
        """Return the samples (N,).

        content: the flac file where it was fetched before. Raises ValueError or CorpusError, in one
        line, when the clip cannot be read or is not as it was prepared.
        """
        name = f"{without_query(self.source)}: {self.id}"
        if content is None and self.span is None and not self.needs_fetching:
            wave, rate = read_audio(self.source)
        else:
            wave, rate = decode_audio(self.content() if content is None else content, name)
        if rate != self.sample_rate:
            raise CorpusError(f"expected {name} at {self.sample_rate} Hz, got {rate} Hz")
        if len(wave) != self.samples:
            raise CorpusError(f"{name}: expected {self.samples} samples, got {len(wave)}")
        return wave


@dataclass(frozen=True, slots=True)
class JoinedClips:
    """Clips of one speaker, each with the second at which it begins."""

    id: str
    parts: tuple[tuple[float, Clip], ...]

    @property
    def duration(self) -> float:
        return round(max(start + clip.duration for start, clip in self.parts), 8)

    @property
    def speaker(self) -> str:
        return self.parts[0][1].speaker

    @property
    def normalized(self) -> str:
        return " ".join(clip.normalized for _, clip in self.parts)

    def load(self) -> NDArray[np.float32]:
        """Return the samples (N,); see `Clip.load`."""
        waves = [(start, clip.load()) for start, clip in self.parts]
        return join_waves(waves, self.parts[0][1].sample_rate, self.id)


def join_waves(
    parts: list[tuple[float, NDArray[np.float32]]], sample_rate: int, id: str
) -> NDArray[np.float32]:
    """Put waves at their seconds onto faint noise that depends on `id` alone."""
    if len(parts) == 1:
        return parts[0][1]
    starts = [round(second * sample_rate) for second, _ in parts]
    length = max(start + len(wave) for start, (_, wave) in zip(starts, parts, strict=True))
    noise = np.random.default_rng(list(id.encode())).standard_normal(length, dtype=np.float32)
    result = noise * np.float32(PAUSE_LEVEL)
    for start, (_, wave) in zip(starts, parts, strict=True):
        result[start : start + len(wave)] = wave
    return result


def is_manifest_row(row: Any) -> bool:
    """Whether a line of a manifest is one that `prepare` or `write_shards` writes.

    span: number of the tar, offset, bytes, CRC-32.
    """
    if type(row) is not dict:
        return False
    span = row.get("span", [0, 0, 1, 0])
    numbers = [row.get("samples"), *span] if type(span) is list else []
    return (
        all(type(row.get(name)) is str for name in TEXTS)
        and all(type(number) is int and number >= 0 for number in numbers)
        and (len(numbers) == 5 and numbers[0] > 0 < numbers[3])
        and bool(row["id"])
    )
