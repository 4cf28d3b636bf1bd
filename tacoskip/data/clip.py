"""A prepared clip, and several of one speaker joined to one utterance.

Short clips (single digits) teach a network nothing about what follows what; joined ones do.
"""

import random
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacoskip.audio import decode_audio
from tacoskip.data.errors import CorpusError
from tacoskip.data.storage import read
from tacoskip.messages import without_secrets

# What a line of a manifest holds; in shards also `span`.
MANIFEST = {"id": str, "speaker": str, "text": str, "normalized": str, "samples": int}
LONGEST_PAUSE = 0.12  # seconds between joined clips
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

    def content(self) -> bytes:
        """Return the clip's flac file; CorpusError where it cannot be read or is damaged."""
        if self.span is None:
            return read(self.source)
        offset, size, checksum = self.span
        content = read(self.source, offset=offset, size=size)
        if len(content) != size or zlib.crc32(content) != checksum:
            name = without_secrets(self.source)
            raise CorpusError(f"{name}: damaged at byte {offset:,}, clip {self.id}")
        return content

    def load(self, content: bytes | None = None) -> NDArray[np.float32]:
        """Return the samples (N,).

        content: the flac file where it was fetched before. Raises ValueError or CorpusError, in one
        line, when the clip cannot be read or is not as it was prepared.
        """
        name = f"{without_secrets(self.source)}: {self.id}"
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
    waves = [(round(second * sample_rate), wave) for second, wave in parts]
    length = max(start + len(wave) for start, wave in waves)
    noise = np.random.default_rng(list(id.encode())).standard_normal(length, dtype=np.float32)
    result = noise * np.float32(PAUSE_LEVEL)
    for start, wave in waves:
        result[start : start + len(wave)] = wave
    return result


def joined_clips(
    clips: Sequence[Clip], low: int, high: int, max_seconds: float, seed: int, epoch: int
) -> list[Clip | JoinedClips]:
    """Return one epoch of strings, each of low..high clips of one speaker, with pauses.

    Every clip comes once; the last string of a speaker is filled up with clips that come twice.
    A string that would pass `max_seconds` ends early. The same seed and epoch give the same
    strings.
    """
    if high == 1:
        return list(clips)
    rng = random.Random(f"join {seed} {epoch}")
    by_speaker: dict[str, list[Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    result: list[Clip | JoinedClips] = []
    for speaker in sorted(by_speaker):
        for parts in _strings(by_speaker[speaker], low, high, max_seconds, rng):
            id = f"join-{epoch}-{len(result)}"
            result.append(JoinedClips(id, tuple(parts)) if len(parts) > 1 else parts[0][1])
    return result


def _strings(
    clips: list[Clip], low: int, high: int, max_seconds: float, rng: random.Random
) -> Iterator[list[tuple[float, Clip]]]:
    """Yield the strings of one speaker's clips, each clip with the second at which it begins."""
    rng.shuffle(clips)
    queue = deque(clips)
    while queue:
        wanted = rng.randint(low, high)
        first = queue.popleft()
        parts, end = [(0.0, first)], first.duration
        while len(parts) < wanted:
            clip = queue[0] if queue else clips[rng.randrange(len(clips))]
            start = end + rng.uniform(0.0, LONGEST_PAUSE)
            if start + clip.duration > max_seconds or (not queue and len(parts) >= low):
                break
            if queue:
                queue.popleft()
            parts.append((start, clip))
            end = start + clip.duration
        yield parts
