"""Evaluation of a voice: it synthesizes a split's texts, and each is compared with its recording.

N samples, T mel frames, M mels. docs/reference/figures.md defines the figures.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacoskip.data.clip import Clip, JoinedClips
from tacoskip.evaluation.error_rates import character_errors, interval
from tacoskip.evaluation.metrics import compare_speech
from tacoskip.evaluation.results import (
    Progress,
    choose_clips,
    open_corpus,
    summarize,
    write_metrics,
)
from tacoskip.loading import load_recognizer, load_voice
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.run_folder import find_checkpoint
from tacoskip.synthesis.alignment import alignment_score
from tacoskip.synthesis.voice import Speech, Voice
from tacoskip.text.letters import plain_words

FIGURES = ("mcd_db", "f0_rmse_cents", "alignment", "stop_failures", "rtf")
BY_JUDGE = ("cer_by_asr", "cer_of_recordings")

Row = dict[str, Any]  # id, text, speaker, warnings, FIGURES; with a judge BY_JUDGE and the texts


def evaluate(
    run: str | Path,
    split: str = "test",
    limit: int = 0,
    seed: int = 0,
    judge: str | Path = "",
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Synthesize a split's texts with the voice of a run and score them; add to RUN/metrics.json.

    limit: see `choose_clips`. judge: a recognizer's run, which transcribes the synthesized speech
    (`cer_by_asr`) and, for comparison, the recordings (`cer_of_recordings`); `transcripts` has
    both. device: of both. Each figure is a dict of mean, low and high (a 95 % bootstrap interval
    over clips) and n, the clips it could be measured on; `speakers` has the means of each speaker
    when there are several, `warnings` the clips whose synthesis had warnings. Raises RunError for
    a run that cannot be used, CorpusError when its corpus is not prepared, ValueError for an
    unknown split or one without clips.
    """
    checkpoint = find_checkpoint(run)
    voice = load_voice(checkpoint, device)
    recognizer = load_recognizer(judge, device) if judge else None
    clips = choose_clips(open_corpus(voice.config, checkpoint), split, limit)
    _synthesize(voice, clips[0], seed)  # the first call allocates threads and buffers: not timed
    rows: list[Row] = []
    for number, clip in enumerate(clips):
        if progress:
            progress(number / len(clips), clip.id)
        rows.append(score(voice, clip, seed, recognizer))
    figures: dict[str, Any] = {
        "run": str(run),
        "checkpoint": checkpoint.name,
        "split": split,
        "seed": seed,
        **{name: summarize([row[name] for row in rows], seed) for name in FIGURES},
    }
    names = sorted({clip.speaker for clip in clips})
    if len(names) > 1:
        figures["speakers"] = {
            name: _means([row for row in rows if row["speaker"] == name]) for name in names
        }
    figures["warnings"] = [
        {name: row[name] for name in ("id", "text", "warnings")} for row in rows if row["warnings"]
    ]
    if recognizer:
        figures["judge"] = str(judge)
        figures |= {name: interval([[row[name]] for row in rows], seed) for name in BY_JUDGE}
        texts = ("id", "reference", "transcript", "transcript_of_recording")
        figures["transcripts"] = [{name: row[name] for name in texts} for row in rows]
    path = write_metrics(checkpoint, split, figures)
    if progress:
        progress(1.0, f"wrote {path}")
    return figures


def score(
    voice: Voice,
    clip: Clip | JoinedClips,
    seed: int,
    recognizer: SpeechRecognizer | None = None,
) -> Row:
    """Synthesize one clip's text and compare it with the recording.

    The mel of the speech is taken from its samples, so that every figure includes the inversion.
    """
    began = time.perf_counter()
    speech = _synthesize(voice, clip, seed)
    work = time.perf_counter() - began
    audio = voice.config.audio
    recording = clip.load()
    wave = np.pad(speech.wave, (0, max(0, audio.hop_length - len(speech.wave))))  # may be empty
    row = {
        "id": clip.id,
        "text": clip.normalized,
        "speaker": clip.speaker,
        **compare_speech(
            recording,
            wave,
            audio.sample_rate,
            audio.hop_length,
            _mel(voice, recording),
            _mel(voice, wave),
        ),
        "alignment": alignment_score(speech.alignment).score,
        "stop_failures": float(not speech.stopped),
        "rtf": work / max(speech.seconds, 1 / audio.sample_rate),
        "warnings": speech.warnings,
    }
    if recognizer:
        reference = plain_words(clip.normalized, normalized=True)
        found = [recognizer.transcribe(x, audio.sample_rate).text for x in (wave, recording)]
        row |= zip(BY_JUDGE, (character_errors(reference, text) for text in found), strict=True)
        row |= zip(("transcript", "transcript_of_recording"), found, strict=True)
        row["reference"] = reference
    return row


def _synthesize(voice: Voice, clip: Clip | JoinedClips, seed: int) -> Speech:
    speaker = clip.speaker if clip.speaker in voice.speakers else None
    if speaker is None and len(voice.speakers) > 1:
        raise ValueError(
            f"expected {clip.id} by a speaker of {', '.join(voice.speakers)}, got '{clip.speaker}'"
        )
    speech = voice.synthesize(clip.normalized, speaker=speaker, seed=seed)
    assert isinstance(speech, Speech)
    return speech


@torch.inference_mode()
def _mel(voice: Voice, wave: NDArray[np.float32]) -> NDArray[np.float32]:
    mel: NDArray[np.float32] = voice.front_end.features(torch.from_numpy(wave))[1].numpy()
    return mel


def _means(rows: Sequence[Row]) -> dict[str, float | int]:
    """Return the number of rows and the mean of each figure over them."""
    means: dict[str, float | int] = {"n": len(rows)}
    for name in FIGURES:
        values = [row[name] for row in rows if math.isfinite(row[name])]
        means[name] = float(np.mean(values)) if values else math.nan
    return means


def table(figures: dict[str, Any]) -> list[list[str]]:
    """Return what `evaluate` found as rows of text: figure, mean, 95 % interval, clips."""
    rows = []
    for name in (*FIGURES, *(name for name in BY_JUDGE if name in figures)):
        value = figures[name]
        low_high = f"{value['low']:.4g} to {value['high']:.4g}"
        rows.append([name, f"{value['mean']:.4g}", low_high, str(value["n"])])
    return rows
