"""Judging a trained voice: it speaks a split's texts, and each clip is set beside the recording.

N samples, T mel frames, M mels, L decoder steps, S symbols. docs/evaluation.md defines the figures.
"""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacoskip.data.clip import Clip
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.evaluation.error_rates import character_errors, interval
from tacoskip.evaluation.metrics import compare_speech
from tacoskip.loading import load_recognizer, load_voice
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.run_folder import find_checkpoint
from tacoskip.synthesis.alignment import alignment_score
from tacoskip.synthesis.voice import Speech, Voice
from tacoskip.text.letters import plain_words

SPLITS = ("train", "validation", "test")
BY_JUDGE = ("cer_by_asr", "cer_of_recordings")
FIGURES = ("mcd_db", "f0_rmse_cents", "alignment", "stop_failures", "rtf")
RESAMPLES = 2000
METRICS = "metrics.json"

Progress = Callable[[float, str], None]


def evaluate(
    run: str | Path,
    split: str = "test",
    limit: int = 0,
    seed: int = 0,
    judge: str | Path = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Let the voice of a run say a split's texts and score them; write RUN/metrics.json.

    split: train | validation | test. limit: at most so many clips (0: all), evenly spread over
    the split. progress: called with the share done and a note. Each of FIGURES is a dict of mean,
    low and high (a 95 % bootstrap interval over clips) and n, the clips it could be measured on;
    `speakers` has the means of each speaker when there are several, `troubles` the clips whose
    speech came with a warning. judge: a recognizer's run; it writes down the speech (`cer_by_asr`)
    and, for comparison, the recordings (`cer_of_recordings`), and `heard` has both. Raises RunError
    for a run that cannot be used, CorpusError when its corpus is not prepared, ValueError for
    another split or one without clips.
    """
    if split not in SPLITS:
        raise ValueError(f"expected a split of {', '.join(SPLITS)}, got '{split}'")
    checkpoint = find_checkpoint(run)
    voice = load_voice(checkpoint)
    recognizer = load_recognizer(judge) if judge else None
    config = voice.config
    clips = clips_of(PreparedCorpus.of(config), split, limit)
    _say(voice, clips[0], seed)  # the first call pays for threads and buffers: it is not timed
    rows: list[dict[str, Any]] = []
    for number, clip in enumerate(clips):
        if progress:
            progress(number / len(clips), clip.id)
        rows.append(score(voice, clip, seed, recognizer))
    figures: dict[str, Any] = {
        "run": str(run),
        "checkpoint": checkpoint.name,
        "split": split,
        "seed": seed,
        **{name: summary([row[name] for row in rows], seed) for name in FIGURES},
    }
    names = sorted({clip.speaker for clip in clips})
    if len(names) > 1:
        figures["speakers"] = {name: _means(rows, name) for name in names}
    figures["troubles"] = [
        {"id": row["id"], "text": row["text"], "warnings": row["warnings"]}
        for row in rows
        if row["warnings"]
    ]
    if recognizer:
        figures |= {"judge": str(judge)} | _heard(rows, seed)
    write_metrics(checkpoint, split, figures)
    if progress:
        progress(1.0, f"wrote {metrics_path(checkpoint)}")
    return figures


def clips_of(corpus: PreparedCorpus, split: str, limit: int = 0) -> list[Clip]:
    """Return the clips of a split in the order of their ids, at most `limit` evenly spread ones."""
    clips = sorted(getattr(corpus, split), key=lambda clip: clip.id)
    if not clips:
        raise ValueError(f"expected clips in the {split} split of {corpus.dir}, found none")
    if 0 < limit < len(clips):
        clips = [clips[k * len(clips) // limit] for k in range(limit)]
    return clips


def score(
    voice: Voice, clip: Clip, seed: int, recognizer: SpeechRecognizer | None = None
) -> dict[str, Any]:
    """Speak one clip's text and compare; the mel of the speech is taken from its samples.

    So every figure is of what is heard, the inversion included. A recognizer adds what it heard in
    the speech and in the recording.
    """
    started = time.perf_counter()
    speech = _say(voice, clip, seed)
    work = time.perf_counter() - started
    truth, rate = clip.load(), clip.sample_rate
    hop = voice.config.audio.hop_length
    reference = np.asarray(truth, dtype=np.float32)
    candidate = np.pad(speech.wave, (0, max(0, hop - len(speech.wave))))  # it may be empty
    distances = compare_speech(
        reference,
        candidate,
        rate,
        hop,
        _mel(voice, reference),
        _mel(voice, candidate),
    )
    return {
        "id": clip.id,
        "text": clip.normalized,
        "speaker": clip.speaker,
        **distances,
        "alignment": alignment_score(speech.alignment).score,
        "stop_failures": float(not speech.stopped),
        "rtf": work / max(speech.seconds, 1 / rate),
        "warnings": speech.warnings,
        **(_written(recognizer, clip, rate, candidate, reference) if recognizer else {}),
    }


def _written(
    recognizer: SpeechRecognizer, clip: Clip, rate: int, *waves: NDArray[np.float32]
) -> dict[str, Any]:
    """What a recognizer hears in the speech and in the recording of one clip, and its errors."""
    speech, recording = (recognizer.transcribe(wave, rate).text for wave in waves)
    said = plain_words(clip.normalized, normalized=True)
    return {
        "said": said,
        "heard": speech,
        "heard_recording": recording,
        "cer_by_asr": character_errors(said, speech),
        "cer_of_recordings": character_errors(said, recording),
    }


def _heard(rows: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Errors of all clips together, and what was heard clip by clip."""
    texts = ("id", "said", "heard", "heard_recording")
    return {
        **{name: interval([[row[name]] for row in rows], seed) for name in BY_JUDGE},
        "heard": [{name: row[name] for name in texts} for row in rows],
    }


def _say(voice: Voice, clip: Clip, seed: int) -> Speech:
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


def summary(values: Sequence[float], seed: int = 0) -> dict[str, float | int]:
    """Return mean, n, and low and high of the mean's 95 % percentile bootstrap over the values.

    Values that are NaN are left out and not counted in n; with none left all but n are NaN.
    """
    finite = np.array([value for value in values if math.isfinite(value)])
    if not finite.size:
        return {"mean": math.nan, "low": math.nan, "high": math.nan, "n": 0}
    rng = np.random.default_rng(seed)
    means = [rng.choice(finite, size=finite.size).mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "mean": float(finite.mean()),
        "low": float(low),
        "high": float(high),
        "n": int(finite.size),
    }


def _means(rows: list[dict[str, Any]], speaker: str) -> dict[str, float | int]:
    """Return the mean of each figure over one speaker's clips, and how many those are."""
    own = [row for row in rows if row["speaker"] == speaker]
    means: dict[str, float | int] = {"n": len(own)}
    for name in FIGURES:
        values = [row[name] for row in own if math.isfinite(row[name])]
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


def metrics_path(checkpoint: Path) -> Path:
    """Return RUN/metrics.json; for a checkpoint outside a run folder, CHECKPOINT.metrics.json."""
    if checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent / METRICS
    return checkpoint.with_name(f"{checkpoint.stem}.{METRICS}")


def write_metrics(checkpoint: Path, split: str, figures: dict[str, Any]) -> None:
    """Write `{split: figures}` into the metrics file, whole or not at all; other splits stay."""
    path = metrics_path(checkpoint)
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    known[split] = _finite(figures)
    partial = path.with_name(f"{path.name}.partial")
    text = json.dumps(known, indent=2, ensure_ascii=False) + "\n"
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    """Return the value with null for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
