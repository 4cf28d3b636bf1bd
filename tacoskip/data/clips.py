"""All clips of a corpus checked and written, in parallel, each once.

Results are kept in clips.journal, a line a clip as it is done, so that running again does only what
is missing; a line cut short by a crash is ignored. A result holds as long as its key: the clip's
file (name, size and time) and every setting that changes the prepared audio. Texts are read anew
each time. libsndfile and soxr release Python's lock, so threads share the work.
"""

import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from tacoskip.data.checks import prepare_clip
from tacoskip.data.download import Progress
from tacoskip.data.errors import CorpusError, Rejected
from tacoskip.data.prepared import audio_name, digest
from tacoskip.data.settings import CorpusConfig
from tacoskip.data.utterance import Utterance
from tacoskip.files import write_whole

Row = dict[str, Any]

VERSION = 3  # raise when the checks or the prepared audio change
GROUP = 256  # clips that are handed to the threads at a time


def check_clips(
    utterances: list[Utterance],
    directory: Path,
    config: CorpusConfig,
    jobs: int | None,
    progress: Progress,
) -> tuple[list[Row], int]:
    """Return a row for each utterance, in their order, and how many of them were done anew.

    A row holds id, path and either reason and detail, or what the manifest needs. Raises
    CorpusError when prepared clips cannot be written.
    """
    journal = directory / "clips.journal"
    known, rows, todo = read_journal(journal), _texts(utterances, config), list[Row]()
    for row in rows:
        if "reason" in row:
            continue
        path = Path(row["path"])
        row["key"] = clip_key(path, config.data.max_seconds, config.audio.sample_rate)
        result = known.get(row["id"], {})
        if result.get("key") == row["key"] and (
            "reason" in result or (directory / audio_name(row["id"])).exists()
        ):
            row |= result
        else:
            todo.append(row)
    done = len(rows) - len(todo)
    progress(done, len(rows), "check clips")
    if not todo:
        return rows, 0
    with journal.open("ab") as stream:
        stream.write(b"\n")  # a line cut short must not swallow the next one
        results = _checked(todo, directory, config, jobs or os.cpu_count() or 1)
        for row, result in zip(todo, results, strict=True):
            stream.write(journal_line(result))
            stream.flush()
            row |= result
            known[row["id"]] = result
            done += 1
            progress(done, len(rows), "check clips")
    write_whole(journal, b"".join(map(journal_line, known.values())))
    return rows, len(todo)


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


def _checked(todo: list[Row], directory: Path, config: CorpusConfig, jobs: int) -> Iterator[Row]:
    """Yield the result of each clip, in order, from `jobs` threads."""
    limits = config.data.max_seconds, config.audio.sample_rate

    def check(row: Row) -> Row:
        result: Row = {"id": row["id"], "key": row["key"]}
        try:
            return result | prepare_clip(
                Path(row["path"]), directory / audio_name(row["id"]), *limits
            )
        except Rejected as rejected:
            return result | {"reason": rejected.reason, "detail": rejected.detail}
        except OSError:  # the disk is full, the folder read-only
            raise
        except Exception as error:  # an error in a thread must name its clip
            cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise CorpusError(f"cannot prepare {row['path']}: {cause}") from error

    rows = iter(todo)
    with ThreadPoolExecutor(jobs, "clips") as pool:
        while group := list(islice(rows, GROUP)):
            yield from pool.map(check, group)


def clip_key(path: Path, max_seconds: float, sample_rate: int) -> str:
    """Return the digest under which the result of the clip in `path` is kept."""
    try:
        state = [path.stat().st_size, path.stat().st_mtime_ns]
    except OSError:
        state = []
    return digest([VERSION, max_seconds, sample_rate, path.name, *state])


def read_journal(path: Path) -> dict[str, Row]:
    """Return the results in clips.journal by clip id; lines that are not as written are ignored."""
    results = {}
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        checksum, _, content = line.partition(b" ")
        if checksum == _checksum(content):
            row = json.loads(content)
            results[row["id"]] = row
    return results


def journal_line(row: Row) -> bytes:
    """Return a line of clips.journal: a checksum and the result."""
    content = json.dumps(row).encode()
    return _checksum(content) + b" " + content + b"\n"


def _checksum(content: bytes) -> bytes:
    return f"{zlib.crc32(content):08x}".encode()
