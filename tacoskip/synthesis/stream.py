"""A 16-bit wav that is written while it is synthesized."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tacoskip.synthesis.long_text import TEXT_PAUSE_SECONDS, silence
from tacoskip.synthesis.voice import Voice


def stream_texts(
    voice: Voice,
    texts: Iterable[str],
    speaker: str | None = None,
    seed: int = 0,
    speed: float = 1.0,
    lexicon: Mapping[str, str] | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Yield waves (N,) of texts as they are ready, with a pause between two texts."""
    for number, text in enumerate(texts):
        if number:
            yield silence(TEXT_PAUSE_SECONDS, voice.sample_rate)
        yield from voice.stream(text, speaker, seed, speed=speed, lexicon=lexicon)


def write_wav(waves: Iterable[NDArray[np.float32]], sample_rate: int, sink: BinaryIO) -> None:
    """Write waves (N,) to a pipe as one mono wav whose header leaves the length open.

    Nothing is written before the first wave: a text that is refused leaves the pipe empty.
    """
    for number, wave in enumerate(waves):
        if not number:
            sink.write(_open_header(sample_rate))
        sink.write(np.round(np.clip(wave, -1.0, 1.0) * 32767).astype("<i2").tobytes())
        sink.flush()


def _open_header(rate: int) -> bytes:
    """Return the 44 bytes before mono 16-bit samples; both lengths say "until the end"."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return b"RIFF\xff\xff\xff\xffWAVE" + form + b"data\xff\xff\xff\xff"
