"""Evaluation of a recognizer: it transcribes a split's recordings, and the texts are compared.

docs/reference/figures.md defines the figures.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tacoskip.evaluation.error_rates import NONE, Errors, character_errors, interval, word_errors
from tacoskip.evaluation.results import (
    Progress,
    Table,
    choose_clips,
    open_corpus,
    table_row,
    write_metrics,
)
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
    write_metrics(checkpoint, name, figures, progress)
    return figures


def scores(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Return all figures that follow from the rows."""
    speakers: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["speaker"]):
        speakers[row["speaker"]].append(row)
    groups = list(speakers.values()) if len(speakers) > 1 else [[row] for row in rows]
    worst = sorted(rows, key=lambda row: (-row["characters"].rate, -row["characters"].total))
    words = _sum(rows, "words")
    return {
        "cer": interval([[row["characters"] for row in group] for group in groups], seed),
        "wer": interval([[row["words"] for row in group] for group in groups], seed),
        "words": words.length,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "speakers": {
            name: {
                "n": len(some),
                "cer": _sum(some, "characters").rate,
                "wer": _sum(some, "words").rate,
                "words": _sum(some, "words").length,
            }
            for name, some in speakers.items()
        },
        "worst": [
            {name: row[name] for name in ("id", "reference", "hypothesis")}
            for row in worst[:WORST]
            if row["characters"].total
        ],
    }


def _sum(rows: Sequence[Row], kind: str) -> Errors:
    return sum((row[kind] for row in rows), NONE)


def tables(figures: dict[str, Any]) -> list[Table]:
    """Return what `evaluate` measured as tables: figures, speakers, utterances with most errors."""
    rows = [table_row(name, figures[name], ".2%") for name in ("cer", "wer")]
    for name in ("substitutions", "deletions", "insertions"):
        rows.append([name, str(figures[name]), f"of {figures['words']} words", ""])
    rows.append(["rtf", f"{figures['rtf']:.4f}", "", ""])
    speakers = [
        [name, f"{one['cer']:.2%}", f"{one['wer']:.2%}", str(one["words"])]
        for name, one in figures["speakers"].items()
    ]
    return [
        (["figure", "mean", "95 % interval", "clips"], rows),
        (["speaker", "cer", "wer", "words"], speakers),
        (["worst", "reference", "transcript"], [[*one.values()] for one in figures["worst"]]),
    ]
