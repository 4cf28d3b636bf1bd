"""All clips of a corpus checked and written, in parallel, each once.

libsndfile and soxr release Python's lock, so threads share the work; text is normalised between.
"""

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacoskip.data.checks import Rejected, prepare_clip
from tacoskip.data.download import Progress
from tacoskip.data.errors import CorpusError
from tacoskip.data.journal import Journal, clip_key, is_result, settings_key
from tacoskip.data.prepared import audio_name
from tacoskip.data.settings import CorpusConfig
from tacoskip.data.utterance import Utterance

if TYPE_CHECKING:
    from tacoskip.text import Tokenizer

Row = dict[str, Any]

AHEAD = 8  # clips queued for each thread


def check_clips(
    utterances: list[Utterance],
    directory: Path,
    config: CorpusConfig,
    jobs: int | None,
    progress: Progress,
) -> tuple[list[Row], int]:
    """Return a row for each utterance, in their order, and how many of them were done anew.

    A row holds id, path and either reason and detail, or what the manifest needs. Audio that
    `directory`/clips.jsonl knows from an earlier run, also one that was interrupted, is not done
    again. Raises CorpusError when prepared clips cannot be written.
    """
    journal = Journal(directory / "clips.jsonl")
    work = _Work(directory, config, journal, jobs or os.cpu_count() or 1)
    try:
        for utterance in utterances:
            work.begin(utterance)
            progress(work.done, len(utterances), "check clips")
        while work.running:
            work.finish()
            progress(work.done, len(utterances), "check clips")
    finally:
        # After Ctrl-C the clips being decoded are finished, the waiting ones are not begun.
        work.pool.shutdown(wait=True, cancel_futures=True)
        journal.close()
    if work.fresh:
        journal.compact()
    return [work.rows[utterance.id] for utterance in utterances], work.fresh


def spoken_text(utterance: Utterance, tokenizer: "Tokenizer") -> tuple[str, dict[str, int]]:
    """Return the text as spoken words and, counted, the characters of it that have no symbol.

    The corpus' own normalised text is preferred to the raw one. Either is read as `synthesize`
    would read it: LJSpeech's column leaves "Mr." and "FBI" as they are. Raises ValueError when
    nothing of the text can be spoken.
    """
    written = " ".join((utterance.normalized or "").split()) or utterance.text
    return tokenizer.read(written)


class _Work:
    """Clips on their way through a pool of threads."""

    def __init__(self, directory: Path, config: CorpusConfig, journal: Journal, jobs: int) -> None:
        from tacoskip.text import Tokenizer

        self.directory, self.data, self.rate = directory, config.data, config.audio.sample_rate
        self.tokenizer = Tokenizer(config.text)
        self.settings = settings_key(self.data, self.rate)
        self.journal, self.jobs, self.fresh = journal, jobs, 0
        self.pool = ThreadPoolExecutor(jobs, "clips")
        self.running: deque[tuple[Future[dict[str, int | float]], Row]] = deque()
        self.rows: dict[str, Row] = {}

    @property
    def done(self) -> int:
        return len(self.rows) - len(self.running)

    def begin(self, utterance: Utterance) -> None:
        """Read the text of a clip, and queue its audio unless that was done before."""
        id, path = utterance.id, utterance.path
        row: Row = {"id": id, "path": str(path), "text": utterance.text}
        row["speaker"] = utterance.speaker
        try:
            row["normalized"], row["lost"] = spoken_text(utterance, self.tokenizer)
        except ValueError as error:
            self.rows[id] = row | {"reason": "no_speakable_text", "detail": str(error)}
            return
        self.rows[id] = row
        result: Row = {"id": id, "key": clip_key(path, self.settings), "file": audio_name(id)}
        file = self.directory / result["file"]
        known = self.journal.get(id, result["key"])
        if known and is_result(known) and ("reason" in known or file.exists()):
            row |= known | {"file": result["file"]}
            del row["key"]
            return
        task = self.pool.submit(prepare_clip, path, file, self.data.max_seconds, self.rate)
        self.running.append((task, result))
        if len(self.running) > AHEAD * self.jobs:
            self.finish()

    def finish(self) -> None:
        """Wait for the clip that was queued first and keep its result."""
        future, result = self.running.popleft()
        try:
            result |= future.result()
        except Rejected as rejected:
            result |= {"reason": rejected.reason, "detail": rejected.detail}
        except OSError as error:  # the disk is full, the folder read-only
            file = self.directory / result["file"]
            raise CorpusError(f"cannot write {file}: {error.strerror}") from error
        except Exception as error:  # an error in a thread must name its clip
            raise CorpusError(
                f"cannot prepare {self.rows[result['id']]['path']}: "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error
        self.journal.add(result)
        del result["key"]  # the rows of all clips are held until the end
        self.rows[result["id"]] |= result
        self.fresh += 1
