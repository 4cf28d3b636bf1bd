"""All clips of a corpus checked and written, in parallel, none of them twice.

libsndfile and soxr release Python's lock, so threads share the work; text is normalised between.
"""

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tacoskip.audio.settings import AudioSettings
from tacoskip.data.checks import Rejected, prepare_clip
from tacoskip.data.download import Progress
from tacoskip.data.errors import CorpusError
from tacoskip.data.journal import Journal, clip_key, is_result, settings_key
from tacoskip.data.settings import DataSettings
from tacoskip.data.utterance import Utterance
from tacoskip.text.settings import TextSettings

Row = dict[str, Any]

AHEAD = 8  # clips a thread that wait for it, or for an earlier one


def audio_name(id: str) -> str:
    """Return the file of a clip relative to the prepared folder, safe for any id."""
    name = quote(id, safe=" ")
    if len(name) > 120:
        name = name[:100] + sha256(id.encode()).hexdigest()[:16]
    return f"audio/{name}.flac"


def check_clips(
    utterances: list[Utterance],
    directory: Path,
    data: DataSettings,
    audio: AudioSettings,
    text: TextSettings,
    jobs: int | None,
    progress: Progress,
) -> tuple[list[Row], int]:
    """Return a row for each utterance, in their order, and how many of them were done anew.

    A row holds id, path and either reason and detail, or what the manifest needs. Audio that
    `directory`/clips.jsonl knows from an earlier run, also one that was interrupted, is not done
    again. Raises CorpusError when prepared clips cannot be written.
    """
    journal = Journal(directory / "clips.jsonl")
    work = _Work(directory, data, audio, text, journal, jobs or os.cpu_count() or 1)
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


class _Work:
    def __init__(
        self,
        directory: Path,
        data: DataSettings,
        audio: AudioSettings,
        text: TextSettings,
        journal: Journal,
        jobs: int,
    ) -> None:
        from tacoskip.text import Tokenizer

        self.directory, self.data, self.rate = directory, data, audio.sample_rate
        self.tokenizer = Tokenizer(text)
        self.settings = settings_key(data, audio.sample_rate)
        self.journal, self.jobs, self.fresh = journal, jobs, 0
        self.pool = ThreadPoolExecutor(jobs, "clips")
        self.running: deque[tuple[Future[dict[str, int | float]], Row]] = deque()
        self.rows: dict[str, Row] = {}

    @property
    def done(self) -> int:
        return len(self.rows) - len(self.running)

    def begin(self, utterance: Utterance) -> None:
        """Read the text of a clip, and see to its audio unless that was done before."""
        from tacoskip.data.transcripts import spoken_text

        id, path = utterance.id, utterance.path
        row: Row = {"id": id, "path": str(path), "text": utterance.text}
        row["speaker"] = utterance.speaker
        try:
            row["normalized"], row["lost"] = spoken_text(utterance, self.tokenizer)
        except Rejected as rejected:
            self.rows[id] = row | {"reason": rejected.reason, "detail": rejected.detail}
            return
        self.rows[id] = row
        result: Row = {"id": id, "key": clip_key(path, self.settings), "file": audio_name(id)}
        file = self.directory / result["file"]
        known = self.journal.get(id, result["key"])
        if known and is_result(known) and ("reason" in known or file.exists()):
            row |= known | {"file": result["file"]}
            del row["key"]
            return
        task = self.pool.submit(prepare_clip, path, file, self.data, self.rate)
        self.running.append((task, result))
        if len(self.running) > AHEAD * self.jobs:
            self.finish()

    def finish(self) -> None:
        """Wait for the clip that was begun first and keep what is known of it."""
        future, result = self.running.popleft()
        try:
            result |= future.result()
        except Rejected as rejected:
            result |= {"reason": rejected.reason, "detail": rejected.detail}
        except OSError as error:  # the disk is full, the folder read-only
            file = self.directory / result["file"]
            raise CorpusError(f"cannot write {file}: {error.strerror}") from error
        except Exception as error:  # a thread's own word says nothing of its clip
            raise CorpusError(
                f"cannot prepare {self.rows[result['id']]['path']}: "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error
        self.journal.add(result)
        del result["key"]  # the rows of all clips are held until the end
        self.rows[result["id"]] |= result
        self.fresh += 1
