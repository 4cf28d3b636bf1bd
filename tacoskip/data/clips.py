"""All clips of a corpus checked and written, in parallel, each once.

A prepared clip carries the key of what it was made from in its comment: the clip's file (name, size
and time) and every setting that changes the prepared audio. Running again does only what is missing
or has another key. Texts are read anew each time. libsndfile and soxr release Python's lock, so
threads share the work.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

from tacoskip.data.checks import known_clip, prepare_clip
from tacoskip.data.download import Progress
from tacoskip.data.errors import CorpusError, Rejected
from tacoskip.data.prepared import audio_name
from tacoskip.data.settings import CorpusConfig
from tacoskip.data.utterance import Utterance

Row = dict[str, Any]

VERSION = 4  # raise when the checks or the prepared audio change
GROUP = 256  # clips that are handed to the threads at a time


def check_clips(
    utterances: list[Utterance],
    directory: Path,
    config: CorpusConfig,
    jobs: int | None,
    progress: Progress,
) -> tuple[list[Row], int]:
    """Return a row for each utterance, in their order, and how many of them were decoded.

    A row holds id, path and either reason and detail, or what the manifest needs and the rate of
    the recording. Raises CorpusError when prepared clips cannot be written.
    """
    limits = config.data.max_seconds, config.audio.sample_rate

    def check(row: Row) -> bool:
        """Prepare a clip, unless it is there, and complete its row; whether it was decoded."""
        path, file = Path(row["path"]), directory / audio_name(row["id"])
        if "reason" in row:
            return False
        try:
            key = clip_key(path, *limits)
            known = known_clip(file, key)
            row["samples"], row["rate"] = known or prepare_clip(path, file, key, *limits)
            row["seconds"] = row["samples"] / config.audio.sample_rate
            return not known
        except Rejected as rejected:
            row |= {"reason": rejected.reason, "detail": rejected.detail}
            return True
        except OSError:  # the disk is full, the folder read-only
            raise
        except Exception as error:  # an error in a thread must name its clip
            cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise CorpusError(f"cannot prepare {path}: {cause}") from error

    rows, done, decoded = _texts(utterances, config), 0, 0
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1, "clips") as pool:
        for first in range(0, len(rows), GROUP):
            for was_decoded in pool.map(check, rows[first : first + GROUP]):
                done, decoded = done + 1, decoded + was_decoded
                progress(done, len(rows), "check clips")
    return rows, decoded


def _texts(utterances: list[Utterance], config: CorpusConfig) -> list[Row]:
    """Return each clip's row with its text as spoken words, or the reason why it has none.

    The corpus' own normalised text is preferred to the raw one. Either is read as `synthesize`
    would read it: LJSpeech's column leaves "Mr." and "FBI" as they are.
    """
    from tacoskip.text import Tokenizer

    tokenizer, rows = Tokenizer(config.text), list[Row]()
    for utterance in utterances:
        row = {name: getattr(utterance, name) for name in ("id", "text", "speaker")}
        row["path"] = str(utterance.path)
        rows.append(row)
        try:
            written = " ".join((utterance.normalized or "").split()) or utterance.text
            row["normalized"], row["lost"] = tokenizer.read(written)
        except ValueError as error:
            row |= {"reason": "no_speakable_text", "detail": str(error)}
    return rows


def clip_key(path: Path, max_seconds: float, sample_rate: int) -> str:
    """Return the digest of what the clip in `path` is prepared from."""
    try:
        state = [path.stat().st_size, path.stat().st_mtime_ns]
    except OSError:
        state = []
    values = (VERSION, max_seconds, sample_rate, path.name, *state)
    return sha256(repr(values).encode()).hexdigest()[:24]
