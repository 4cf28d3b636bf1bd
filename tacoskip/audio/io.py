"""Audio files in and out: mono float32 inside, 16-bit outside.

libsndfile reads a file that was cut short as a shorter one, with a note in its log, and believes
any number of samples and any rate that a header names: they are checked.
"""

import os
import re
import struct
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacoskip.audio import ffmpeg
from tacoskip.audio.cut import is_cut_short
from tacoskip.files import open_regular, raised_limit, write_whole

if TYPE_CHECKING:
    from soundfile import SoundFile

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif", *ffmpeg.SUFFIXES)

# What libsndfile's log says of a file that holds less than its header promises. A writer into a
# pipe cannot go back to fill in the size: it leaves 0xFFFFFFFF or (SoX) _UNKNOWN_SIZE.
_SHORTER = re.compile(
    r"^ *(?:data|SSND|riff|Riff size|Data Size) *: ([0-9]+) \(should be ([0-9]+)\)", re.MULTILINE
)
_UNKNOWN_SIZE = 0x7FFFF000

# What no recording exceeds: a flac of silence holds 6,000 samples a byte; integers of 32 bits that
# were written as floats, as they are, reach 2e9; the power of what is louder has no float32.
_SAMPLES_A_BYTE = 10_000
_RATES = (1_000, 1_000_000)
LOUDEST = 1e10
MOST_SAMPLES = 1 << 28  # of all channels that are held in memory at once; 1.7 hours at 44.1 kHz
LARGEST_FILE = 1 << 40  # bytes
CANCELLED = 1e-4  # of a channel's power that mixing must leave: -40 dB


def read_audio(
    path: str | PathLike[str], sample_rate: int | None = None
) -> tuple[NDArray[np.float32], int]:
    """Read a file that libsndfile knows (wav, flac, ogg, mp3, ...) or ffmpeg, mixed to mono.

    `sample_rate`: resample to it (soxr) where the file has another one.
    Returns the wave, float32 (N,), and its sample rate.
    Raises ValueError, one line with file and cause, when the file is missing, a folder, empty, not
    audio, cut short, without samples, larger than memory, or holds NaN or infinite samples.
    """
    if sample_rate is not None and not sample_rate >= 1:  # true for NaN too
        raise ValueError(f"expected a sample rate of at least 1 Hz, got {sample_rate}")
    with open_audio(path) as sound:
        wave, rate = np.concatenate(list(_mixed(sound, path, sound.frames))), sound.samplerate
    if sample_rate is not None and sample_rate != rate:
        import soxr

        wave, rate = soxr.resample(wave, rate, sample_rate), sample_rate
    if len(wave) == 0:
        raise ValueError(f"{path}: holds no samples")
    return np.ascontiguousarray(wave, dtype=np.float32), int(rate)


def decode_audio(content: bytes, name: str) -> tuple[NDArray[np.float32], int]:
    """Read a file that is in memory as `read_audio` does; `name` stands for it in errors."""
    with _open(BytesIO(content), name, len(content)) as sound:
        return np.concatenate(list(_mixed(sound, name, sound.frames))), int(sound.samplerate)


def stream_audio(
    path: str | PathLike[str], sample_rate: int, block_seconds: float = 10.0
) -> Iterator[NDArray[np.float32]]:
    """Read a file block by block, mono at `sample_rate`, in memory that its length does not grow.

    Yields waves (N,) of about `block_seconds`. Raises ValueError as `read_audio` does, for what
    only the samples show when they are reached.
    """
    import soxr

    with open_audio(path) as sound:
        rate = sound.samplerate
        resampler = soxr.ResampleStream(rate, sample_rate, 1) if rate != sample_rate else None
        for mono in _mixed(sound, path, round(rate * block_seconds)):
            if resampler is not None:
                mono = resampler.resample_chunk(mono, last=len(mono) == 0)
            if len(mono):
                yield np.ascontiguousarray(mono, dtype=np.float32)


def _mixed(
    sound: "SoundFile", path: str | PathLike[str], size: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the blocks of `checked_blocks`, mixed to one channel (N,)."""
    cancelled = False
    for samples in checked_blocks(sound, path, size):
        mono = samples.mean(axis=1, dtype=np.float32)
        if not cancelled and channels_cancel(samples, mono):
            cancelled = True
            warnings.warn(
                f"{path}: its channels have opposite phases, mixed to mono they cancel each other; "
                "keep one of them",
                stacklevel=3,
            )
        yield mono


def checked_blocks(
    sound: "SoundFile", path: str | PathLike[str], size: int
) -> Iterator[NDArray[np.float32]]:
    """Yield an open file's samples (N, channels), `size` at a time; the last block is empty.

    Raises ValueError, which names `path`, where samples are not finite, fewer than promised, or too
    many to hold `size` of them in memory.
    """
    promised, read, samples = sound.frames, 0, None
    held = min(size, promised) * sound.channels
    if held > raised_limit(MOST_SAMPLES):
        raise ValueError(
            f"{path}: too long to be read at once, expected at most {MOST_SAMPLES:,} samples, got "
            f"{held:,} (TACOSKIP_LIMITS=10 allows ten times as many)"
        )
    while samples is None or len(samples):
        samples = sound.read(size, dtype="float32", always_2d=True)
        if broken := broken_samples(samples):
            counted = f"{broken} of {len(samples)}"
            raise ValueError(f"{path}: expected finite samples, got {counted} NaN or infinite")
        read += len(samples)
        yield samples
    # An mp3 header counts the encoder's delay, or guesses from the bit rate.
    tolerated = promised // 50 + 4608 if sound.format in ("MP3", "MPEG") else 0
    if read < promised - tolerated:
        raise ValueError(f"{path}: cut short, expected {promised} samples, got {read}")
    if not read:
        raise ValueError(f"{path}: holds no samples")


def check_rate(path: str | PathLike[str], rate: float) -> None:
    """Raise ValueError for a sample rate that no recording has."""
    low, high = _RATES
    if not low <= rate <= high:
        raise ValueError(f"{path}: expected a sample rate of {low} to {high} Hz, got {rate}")


def channels_cancel(samples: NDArray[np.float32], mono: NDArray[np.float32]) -> bool:
    """Whether samples (N, channels) have opposite phases: their mix (N,) is next to nothing."""
    if samples.shape[1] == 1:
        return False
    loudest = np.square(samples, dtype=np.float64).sum(axis=0).max(initial=0.0)
    return bool(np.square(mono, dtype=np.float64).sum() < CANCELLED * loudest)


def broken_samples(samples: NDArray[np.float32]) -> int:
    """Return how many of samples (N, channels) are NaN, infinite or as good as that."""
    # Least and largest are NaN where any sample is; counting is ten times as slow.
    if samples.min(initial=0.0) >= -LOUDEST and samples.max(initial=0.0) <= LOUDEST:
        return 0
    return len(samples) - int((np.abs(samples) <= LOUDEST).all(axis=1).sum())


def write_audio(path: str | PathLike[str], wave: ArrayLike, sample_rate: int) -> None:
    """Write a mono wave (N,) within [-1, 1] as 16-bit PCM; the suffix, .wav or .flac, says how.

    Samples beyond +-1 are clipped, with a warning that says by how much.
    The file appears whole or not at all. Raises ValueError when samples are not floating point, not
    (N,), NaN or infinite, or for a suffix that says nothing; OSError when the disk is full.
    """
    import soundfile

    samples = np.asarray(wave)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise ValueError(
            f"{path}: expected a floating point wave (N,), got {samples.dtype} {samples.shape}"
        )
    if broken := int((~np.isfinite(samples)).sum()):
        raise ValueError(
            f"{path}: expected finite samples, got {broken} of {len(samples)} NaN or infinite"
        )
    loud = np.abs(samples, dtype=np.float64)
    peak = float(loud.max(initial=0.0))
    if peak > 1.0:
        warnings.warn(
            f"{path}: clipped {int((loud > 1.0).sum())} of {len(samples)} samples, the loudest at "
            f"{peak:.3f} ({20 * np.log10(peak):.1f} dB too loud)",
            stacklevel=2,
        )
    # The scale that reading divides by: a 16-bit file read and written again keeps its samples.
    pcm = np.clip(np.round(samples.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    target, encoded = Path(path).resolve(), BytesIO()
    if not target.parent.is_dir():
        raise ValueError(f"{path}: no such folder as {Path(path).parent}")
    try:
        kind = target.suffix.removeprefix(".")
        soundfile.write(encoded, pcm, sample_rate, subtype="PCM_16", format=kind)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not writable as 16-bit audio ({_cause(error)})") from error
    write_whole(target, encoded.getvalue())


def write_wav(waves: Iterable[NDArray[np.float32]], sample_rate: int, sink: BinaryIO) -> None:
    """Write waves (N,) to a pipe as one mono wav of 16 bits whose header leaves the length open.

    Nothing is written before the first samples: a text that is refused leaves the pipe empty.
    """
    rate, open_end = sample_rate, b"\xff\xff\xff\xff"
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    header = b"RIFF" + open_end + b"WAVE" + form + b"data" + open_end
    for wave in waves:
        if len(wave):
            samples = np.round(np.clip(wave, -1.0, 1.0) * 32767).astype("<i2")
            sink.write(header + samples.tobytes())
            sink.flush()
            header = b""


@contextmanager
def open_audio(path: str | PathLike[str]) -> "Iterator[SoundFile]":
    """Open a file for reading; whatever libsndfile raises, then or later, becomes a ValueError."""
    file = Path(path)
    try:
        with open_regular(file, LARGEST_FILE) as stream:  # an OSError says more than libsndfile
            size = file.stat().st_size
            cut = is_cut_short(stream, size)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    if size == 0:
        raise ValueError(f"{path}: the file is empty")
    if cut:
        raise ValueError(f"{path}: cut short, it ends before its header says")
    if file.suffix.lower() in ffmpeg.SUFFIXES:
        with ffmpeg.decoded(file) as wav, _open(str(wav), path, wav.stat().st_size) as sound:
            yield sound
    else:
        with _open(os.fsencode(path), path, size) as sound:
            yield sound


@contextmanager
def _open(
    source: str | bytes | BytesIO, path: str | PathLike[str], size: int
) -> "Iterator[SoundFile]":
    """Open `size` bytes of audio whose header makes sense; errors name `path`."""
    import soundfile

    try:
        with soundfile.SoundFile(source) as sound:
            for promised, held in _SHORTER.findall(sound.extra_info):
                if int(held) < int(promised) < _UNKNOWN_SIZE:
                    raise ValueError(
                        f"{path}: cut short, expected {promised} bytes of samples, got {held}"
                    )
            if sound.frames <= 0:
                cut = "" if sound.format == "WAV" else ", or is cut short"
                raise ValueError(f"{path}: holds no samples{cut}")
            if sound.frames > size * _SAMPLES_A_BYTE:
                raise ValueError(
                    f"{path}: expected a header that says how many samples follow, got "
                    f"{sound.frames} in {size} bytes"
                )
            check_rate(path, sound.samplerate)
            yield sound
    except MemoryError:
        raise ValueError(f"{path}: too long for the memory of this machine") from None
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise ValueError(f"{path}: not readable as audio ({_cause(error)})") from error


def _cause(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or getattr(error, "error_string", error)
    text = " ".join(str(reason).split())
    if text.startswith("File does not exist"):  # libsndfile's words for an mp3 without a frame
        return "nothing in it can be decoded"
    return text.rstrip(".") or type(error).__name__
