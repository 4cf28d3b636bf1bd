"""Clips, from their files to prepared 16-bit flac: decoded, checked, trimmed, levelled, each once.

A prepared clip carries the key of what it was made from in its comment: the clip's file (name, size
and time) and every setting that changes the prepared audio. Running again does only what is missing
or has another key. libsndfile and soxr release Python's lock, so threads share the work. A clip
that fails a check raises `Rejected` with a reason code of docs/reference/corpora.md.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacoskip.data.download import Progress
from tacoskip.data.errors import CorpusError, Rejected
from tacoskip.data.prepared import audio_name
from tacoskip.data.settings import CorpusConfig
from tacoskip.data.utterance import Utterance
from tacoskip.files import open_regular, write_whole

VERSION = 4  # raise when the checks or the prepared audio change
GROUP = 256  # clips that are handed to the threads at a time

FULL_SCALE = 32766 / 32768
CLIPPED_SHARE = 0.01  # more than this at full scale, and a clip is distorted throughout
SILENT_DB = -60.0  # speech is louder, RMS below full scale
MIN_SECONDS = 0.1  # of speech
TRIM_DB = 40.0  # silence at the ends is this far below the loudest part
MARGIN_MS = 50.0  # of it that is kept
LEVEL_DB = -26.0  # RMS below full scale of a prepared clip
PEAK = 0.99
LARGEST_CLIP = 1 << 30  # bytes
# What reading raises says which reason it is.
REASONS = {
    "cut short": "truncated",
    "no samples": "empty",
    "is empty": "empty",
    "too long": "too_long",
    "NaN": "not_finite",
}

LEAST_CLIPS = 20  # fewer do not tell which speaking rates are usual
FASTEST, SLOWEST = 60.0, 0.4  # characters a second that no speaker reaches


def check_clips(
    clips: list[Utterance],
    directory: Path,
    config: CorpusConfig,
    jobs: int | None,
    progress: Progress,
) -> int:
    """Normalise the texts and prepare the audio of clips; return how many were decoded.

    A text is normalised as `synthesize` would do it; the corpus' own normalised text is preferred
    to the raw one (LJSpeech's leaves "Mr." and "FBI" as they are). Clips that fail a check are
    marked as rejected. Raises CorpusError when prepared clips cannot be written.
    """
    from tacoskip.text import Tokenizer

    limits, tokenizer = (config.data.max_seconds, config.audio.sample_rate), Tokenizer(config.text)
    for clip in clips:
        written = " ".join((clip.normalized or "").split()) or clip.text
        try:
            clip.normalized, clip.lost = tokenizer.read(written)
        except ValueError as error:
            clip.rejected = Rejected("no_speakable_text", str(error))

    def check(clip: Utterance) -> bool:
        """Prepare a clip, unless it is there or rejected; whether it was decoded."""
        if clip.rejected:
            return False
        file = directory / audio_name(clip.id)
        try:
            key = clip_key(clip.path, *limits)
            known = known_clip(file, key)
            clip.samples, clip.rate = known or prepare_clip(clip.path, file, key, *limits)
            return not known
        except Rejected as rejected:
            clip.rejected = rejected
            return True
        except OSError:  # the disk is full, the folder read-only
            raise
        except Exception as error:  # an error in a thread must name its clip
            cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise CorpusError(f"cannot prepare {clip.path}: {cause}") from error

    done = decoded = 0
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1, "clips") as pool:
        for first in range(0, len(clips), GROUP):
            for was_decoded in pool.map(check, clips[first : first + GROUP]):
                done, decoded = done + 1, decoded + was_decoded
                progress(done, len(clips), "check clips")
    return decoded


def clip_key(path: Path, max_seconds: float, sample_rate: int) -> str:
    """Return the digest of what the clip in `path` is prepared from."""
    try:
        state = [path.stat().st_size, path.stat().st_mtime_ns]
    except OSError:
        state = []
    values = (VERSION, max_seconds, sample_rate, path.name, *state)
    return sha256(repr(values).encode()).hexdigest()[:24]


def known_clip(file: Path, key: str) -> tuple[int, int] | None:
    """Return what `prepare_clip` returned for the clip in `file`; None unless it has this key."""
    import soundfile

    try:
        open_regular(file, LARGEST_CLIP).close()
        with soundfile.SoundFile(file) as clip:
            mark, _, rate = clip.comment.partition(" ")
            return (clip.frames, int(rate)) if mark == key else None
    except (soundfile.SoundFileError, OSError, ValueError):
        return None  # there is none, or it is damaged


def prepare_clip(
    source: Path, file: Path, key: str, max_seconds: float, sample_rate: int
) -> tuple[int, int]:
    """Check the clip in `source` and write it to `file`, with `key` in its comment.

    Returns the samples written and the rate as recorded. Raises Rejected for a clip that fails a
    check, OSError when it cannot be written; the file appears whole or not at all.
    """
    import soundfile

    from tacoskip.audio import trim_silence

    samples, rate = decode(source, max_seconds)
    clipped = float((np.abs(samples) >= FULL_SCALE).mean(axis=0).max())  # of the worst channel
    wave = to_mono(samples, rate, sample_rate)
    start, end = trim_silence(wave, sample_rate, TRIM_DB, MARGIN_MS)
    seconds = (end - start) / sample_rate
    if end <= start or decibels(wave[start:end]) < SILENT_DB:
        raise Rejected("silent", f"no speech above {SILENT_DB:.0f} dB")
    if seconds < MIN_SECONDS:
        raise Rejected("too_short", f"{seconds:.2f} s of speech, at least {MIN_SECONDS} s")
    if seconds > max_seconds:
        raise Rejected("too_long", f"{seconds:.1f} s of speech, at most {max_seconds} s")
    if clipped > CLIPPED_SHARE:
        raise Rejected("clipped", f"{clipped:.1%} of samples at full scale")
    pcm = np.rint(set_level(wave[start:end]) * 32767).astype(np.int16)
    encoded = BytesIO()
    with soundfile.SoundFile(encoded, "w", sample_rate, 1, "PCM_16", format="FLAC") as flac:
        flac.comment = f"{key} {rate}"
        flac.write(pcm)
    write_whole(file, encoded.getvalue())
    return len(pcm), rate


def decode(path: Path, max_seconds: float) -> tuple[NDArray[np.float32], int]:
    """Return samples (N, channels) and their rate, or raise Rejected.

    A file far beyond `max_seconds` is refused before its samples are read.
    """
    from tacoskip.audio.io import checked_blocks, open_audio

    if not os.path.isfile(path):
        raise Rejected("missing", "not a file" if os.path.exists(path) else "no such file")
    try:
        with open_audio(path) as sound:
            frames, rate = sound.frames, sound.samplerate
            if frames / rate > 2 * max_seconds + 10:
                detail = f"{frames / rate:.1f} s before trimming, at most {max_seconds} s"
                raise Rejected("too_long", detail)
            return np.concatenate(list(checked_blocks(sound, path, frames))), rate
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        detail = " ".join(str(error).removeprefix(f"{path}: ").split())
        reason = next((code for phrase, code in REASONS.items() if phrase in detail), "undecodable")
        raise Rejected(reason, detail) from error


def to_mono(samples: NDArray[np.float32], rate: int, wanted_rate: int) -> NDArray[np.float32]:
    """Mix samples (N, channels), resample them and take their offset away: (N,)."""
    import soxr

    from tacoskip.audio.io import channels_cancel

    if len(samples) < MIN_SECONDS * rate:
        raise Rejected("too_short", f"{len(samples) / rate:.2f} s, at least {MIN_SECONDS} s")
    wave = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    if channels_cancel(samples, wave):
        raise Rejected("opposite_phase", "its channels cancel each other: keep one of them")
    if rate != wanted_rate:
        wave = soxr.resample(wave, rate, wanted_rate)
    centred: NDArray[np.float32] = wave - wave.mean(dtype=np.float64).astype(np.float32)
    return centred


def decibels(wave: NDArray[np.float32]) -> float:
    """Return the RMS level of a wave in dB below full scale."""
    return float(10 * np.log10(np.mean(np.square(wave, dtype=np.float64)) + 1e-20))


def set_level(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale to an RMS of LEVEL_DB, or less where a peak would pass full scale."""
    gain = 10 ** ((LEVEL_DB - decibels(wave)) / 20)
    return wave * np.float32(min(gain, PEAK / float(np.abs(wave).max())))


def reject_implausible_rates(clips: list[Utterance], sample_rate: int) -> None:
    """Reject clips whose text and audio can hardly belong together.

    Bounds on the logarithm of the rate: the median -+ 5 robust deviations (1.4826 MAD), but at
    least a factor of 3, since a word or two has any rate. With fewer than LEAST_CLIPS clips only
    rates that no speaker reaches are refused.
    """
    letters = [sum(c.isalnum() for c in clip.normalized or "") for clip in clips]
    logs = np.log(np.maximum(letters, 1e-6) * sample_rate / [clip.samples for clip in clips])
    low, high = np.log(SLOWEST), np.log(FASTEST)
    if len(clips) >= LEAST_CLIPS:
        median = float(np.median(logs))
        width = max(5 * 1.4826 * float(np.median(np.abs(logs - median))), np.log(3))
        low, high = max(low, median - width), min(high, median + width)
    phrase = f"characters a second, expected {np.exp(low):.1f} to {np.exp(high):.1f}"
    for clip, value in zip(clips, logs, strict=True):
        if not low <= value <= high:
            clip.rejected = Rejected("implausible_rate", f"{np.exp(value):.1f} {phrase}")
