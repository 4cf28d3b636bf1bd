"""Judging a trained recognizer: it writes a split's recordings down, and the texts are compared.

N samples. docs/listen.md defines the figures.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tacoskip.data.clip import Clip, JoinedClips
from tacoskip.data.joining import joined_clips
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.evaluation.error_rates import (
    NONE,
    Errors,
    character_errors,
    confusions,
    interval,
    word_errors,
)
from tacoskip.evaluation.voices import SPLITS, Progress, metrics_path, write_metrics
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.run_folder import find_checkpoint
from tacoskip.text.letters import plain_words

WORST, CONFUSED = 10, 20


def evaluate(
    recognizer: SpeechRecognizer,
    run: str | Path,
    split: str = "test",
    limit: int = 0,
    seed: int = 0,
    join: tuple[int, int] = (1, 1),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write down a split of the recognizer's corpus and score it; add to RUN/metrics.json.

    limit: at most so many utterances (0: all), evenly spread. join: least and most clips of one
    speaker in an utterance. `cer` and `wer` are dicts of mean (errors over length, all utterances
    together), low, high (95 %, bootstrapped over speakers where there are several, else over
    utterances) and n. Raises ValueError for another split or one without clips, CorpusError when
    the corpus is not prepared.
    """
    if split not in SPLITS:
        raise ValueError(f"expected a split of {', '.join(SPLITS)}, got '{split}'")
    config = recognizer.config
    corpus = PreparedCorpus.of(config)
    clips = utterances(corpus, split, limit, join, config.data.max_seconds)
    said = [plain_words(clip.normalized, normalized=True) for clip in clips]
    waves = [clip.load() for clip in clips]
    seconds = sum(map(len, waves)) / recognizer.sample_rate
    recognizer.transcribe(waves[0])  # the first call pays for threads and buffers: it is not timed
    began, heard = time.perf_counter(), list[str]()
    for number, transcript in enumerate(recognizer.transcribe_waves(waves)):
        heard.append(transcript.text)
        if progress:
            progress(number / len(clips), clips[number].id)
    work = time.perf_counter() - began
    rows = [
        {
            "id": clip.id,
            "speaker": clip.speaker,
            "said": reference,
            "heard": hypothesis,
            "characters": character_errors(reference, hypothesis),
            "words": word_errors(reference, hypothesis),
        }
        for clip, reference, hypothesis in zip(clips, said, heard, strict=True)
    ]
    checkpoint = find_checkpoint(run)
    figures = {
        "run": str(run),
        "checkpoint": checkpoint.name,
        "split": split,
        "join": list(join),
        "decoding": recognizer.decoding,
        "seed": seed,
        **scores(rows, seed),
        "rtf": work / seconds,
    }
    name = split if join == (1, 1) else f"{split}, strings of {join[0]}-{join[1]}"
    name += "" if recognizer.decoding == "greedy" else f", {recognizer.decoding}"
    write_metrics(checkpoint, name, figures)
    if progress:
        progress(1.0, f"wrote {metrics_path(checkpoint)}")
    return figures


def utterances(
    corpus: PreparedCorpus, split: str, limit: int, join: tuple[int, int], max_seconds: float
) -> list[Clip | JoinedClips]:
    """Return the clips of a split by id, joined to strings where asked: the same each time."""
    clips = sorted(getattr(corpus, split), key=lambda clip: clip.id)
    if not clips:
        raise ValueError(f"expected clips in the {split} split of {corpus.dir}, found none")
    found = joined_clips(clips, *join, max_seconds, 0, 0)
    if 0 < limit < len(found):
        found = [found[k * len(found) // limit] for k in range(limit)]
    return found


def scores(rows: Sequence[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Return all figures that follow from rows of id, speaker, said, heard, characters, words."""
    words: Errors = sum((row["words"] for row in rows), NONE)
    speakers = sorted({row["speaker"] for row in rows})
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["speaker"] if len(speakers) > 1 else row["id"]].append(row)
    worst = sorted(rows, key=lambda row: (-row["characters"].rate, -row["characters"].total))
    confused = confusions([row["said"] for row in rows], [row["heard"] for row in rows])
    return {
        "cer": interval([[row["characters"] for row in g] for g in groups.values()], seed),
        "wer": interval([[row["words"] for row in g] for g in groups.values()], seed),
        "words": words.length,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "speakers": {name: _speaker(rows, name) for name in speakers},
        "worst": [
            {"id": row["id"], "said": row["said"], "heard": row["heard"]}
            for row in worst[:WORST]
            if row["characters"].total
        ],
        "confusions": [
            {"said": a, "heard": b, "count": count}
            for (a, b), count in confused.most_common(CONFUSED)
        ],
    }


def _speaker(rows: Sequence[dict[str, Any]], name: str) -> dict[str, float | int]:
    own = [row for row in rows if row["speaker"] == name]
    words: Errors = sum((row["words"] for row in own), NONE)
    characters: Errors = sum((row["characters"] for row in own), NONE)
    return {"n": len(own), "cer": characters.rate, "wer": words.rate, "words": words.length}


def table(figures: dict[str, Any]) -> list[list[str]]:
    """Return what `evaluate` found as rows of text: figure, mean, 95 % interval, clips."""
    rows = []
    for name in ("cer", "wer"):
        value = figures[name]
        low_high = f"{value['low']:.2%} to {value['high']:.2%}"
        rows.append([name, f"{value['mean']:.2%}", low_high, str(value["n"])])
    for name in ("substitutions", "deletions", "insertions"):
        rows.append([name, str(figures[name]), f"of {figures['words']} words", ""])
    rows.append(["rtf", f"{figures['rtf']:.4f}", "", ""])
    return rows


def speaker_rows(figures: dict[str, Any]) -> list[list[str]]:
    """Return each speaker's rates as rows of text."""
    return [
        [name, f"{own['cer']:.2%}", f"{own['wer']:.2%}", str(own["words"])]
        for name, own in figures["speakers"].items()
    ]


def worst_rows(figures: dict[str, Any]) -> list[list[str]]:
    """Return the utterances with most errors as rows of text."""
    return [[row["id"], row["said"], row["heard"]] for row in figures["worst"]]
