"""Evaluation of a recognizer: it transcribes a split's recordings, and the texts are compared.

docs/reference/figures.md defines the figures.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tacoskip.evaluation.error_rates import (
    NONE,
    character_errors,
    interval,
    word_errors,
)
from tacoskip.evaluation.results import Progress, choose_clips, open_corpus, write_metrics
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.run_folder import find_checkpoint
from tacoskip.text.letters import plain_words

WORST = 10  # utterances that metrics.json names

Row = dict[str, Any]  # id, speaker, reference, hypothesis, characters, words


def evaluate(
    recognizer: SpeechRecognizer,
    run: str | Path,
    split: str = "test",
    limit: int = 0,
    seed: int = 0,
    join: tuple[int, int] = (1, 1),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Transcribe a split of the recognizer's corpus and score it; add to RUN/metrics.json.

    limit, join: see `choose_clips`. `cer` and `wer` are dicts of mean (errors over length, all
    utterances together), low, high (95 %, bootstrapped over speakers where there are several, else
    over utterances) and n. Raises ValueError for an unknown split or one without clips, CorpusError
    when the corpus is not prepared.
    """
    checkpoint = find_checkpoint(run)
    corpus = open_corpus(recognizer.config, checkpoint)
    clips = choose_clips(corpus, split, limit, join, recognizer.config.data.max_seconds)
    references = [plain_words(clip.normalized, normalized=True) for clip in clips]
    waves = [clip.load() for clip in clips]
    recognizer.transcribe(waves[0])  # the first call allocates threads and buffers: it is not timed
    began, hypotheses = time.perf_counter(), list[str]()
    for number, transcript in enumerate(recognizer.transcribe_waves(waves)):
        hypotheses.append(transcript.text)
        if progress:
            progress(number / len(clips), clips[number].id)
    work = time.perf_counter() - began
    rows = [
        {
            "id": clip.id,
            "speaker": clip.speaker,
            "reference": reference,
            "hypothesis": hypothesis,
            "characters": character_errors(reference, hypothesis),
            "words": word_errors(reference, hypothesis),
        }
        for clip, reference, hypothesis in zip(clips, references, hypotheses, strict=True)
    ]
    figures = {
        "run": str(run),
        "checkpoint": checkpoint.name,
        "split": split,
        "join": list(join),
        "decoding": recognizer.decoding,
        "seed": seed,
        **scores(rows, seed),
        "rtf": work * recognizer.sample_rate / sum(map(len, waves)),
    }
    name = split if join == (1, 1) else f"{split}, strings of {join[0]}-{join[1]}"
    name += "" if recognizer.decoding == "greedy" else f", {recognizer.decoding}"
    path = write_metrics(checkpoint, name, figures)
    if progress:
        progress(1.0, f"wrote {path}")
    return figures


def scores(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Return all figures that follow from the rows."""
    words = sum((row["words"] for row in rows), NONE)
    speakers = sorted({row["speaker"] for row in rows})
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["speaker"] if len(speakers) > 1 else row["id"]].append(row)
    worst = sorted(rows, key=lambda row: (-row["characters"].rate, -row["characters"].total))
    return {
        "cer": interval([[row["characters"] for row in g] for g in groups.values()], seed),
        "wer": interval([[row["words"] for row in g] for g in groups.values()], seed),
        "words": words.length,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "speakers": {
            name: _rates([row for row in rows if row["speaker"] == name]) for name in speakers
        },
        "worst": [
            {name: row[name] for name in ("id", "reference", "hypothesis")}
            for row in worst[:WORST]
            if row["characters"].total
        ],
    }


def _rates(rows: Sequence[Row]) -> dict[str, float | int]:
    words = sum((row["words"] for row in rows), NONE)
    characters = sum((row["characters"] for row in rows), NONE)
    return {"n": len(rows), "cer": characters.rate, "wer": words.rate, "words": words.length}


def table(figures: dict[str, Any]) -> list[list[str]]:
    """Return what `evaluate` found as rows of text: figure, mean, 95 % interval, clips."""
    rows = []
    for name in ("cer", "wer"):
        value = figures[name]
        low_high = f"{value['low']:.2%} to {value['high']:.2%}"
        rows.append([name, f"{value['mean']:.2%}", low_high, str(value["n"])])
    for name in ("substitutions", "deletions", "insertions"):
        rows.append([name, str(figures[name]), f"of {figures['words']} words", ""])
    return [*rows, ["rtf", f"{figures['rtf']:.4f}", "", ""]]


def speaker_rows(figures: dict[str, Any]) -> list[list[str]]:
    """Return each speaker's rates as rows of text."""
    return [
        [name, f"{one['cer']:.2%}", f"{one['wer']:.2%}", str(one["words"])]
        for name, one in figures["speakers"].items()
    ]


def worst_rows(figures: dict[str, Any]) -> list[list[str]]:
    """Return the utterances with most errors as rows of text."""
    return [[row["id"], row["reference"], row["hypothesis"]] for row in figures["worst"]]
