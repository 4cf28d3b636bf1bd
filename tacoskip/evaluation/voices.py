"""Evaluation of a voice: it synthesizes a split's texts, and each is compared with its recording.

N samples, T mel frames, M mels. docs/reference/figures.md defines the figures.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tacoskip.data.clip import Clip, JoinedClips
from tacoskip.data.durations import symbol_durations
from tacoskip.data.loading import Loader
from tacoskip.evaluation.error_rates import character_errors, interval, word_errors
from tacoskip.evaluation.judges import Judge, Naturalness, load_judge, load_mos
from tacoskip.evaluation.metrics import compare_speech
from tacoskip.evaluation.results import (
    Figure,
    Progress,
    Table,
    choose_clips,
    open_corpus,
    summarize,
    table_row,
    write_metrics,
)
from tacoskip.loading import load_voice
from tacoskip.models.durations import DURATIONS
from tacoskip.models.tacotron import Tacotron
from tacoskip.run_folder import find_checkpoint
from tacoskip.synthesis.alignment import alignment_score
from tacoskip.synthesis.speech import Speech
from tacoskip.synthesis.voice import Voice
from tacoskip.text.letters import plain_words

FIGURES = ("mcd_db", "f0_rmse_cents", "alignment", "stop_failures", "rtf")
MOS = ("mos_by_model", "mos_of_recordings")
# What a judge transcribes of each test sentence: every version adds a source of errors.
RUNGS = ("recording", "copy-synthesis", "teacher-forced", "free-running")

Row = dict[str, Any]  # id, text, speaker, warnings, FIGURES; with a judge a text for each rung


def evaluate(
    run: str | Path,
    split: str = "test",
    limit: int = 0,
    seed: int = 0,
    judge: str | Path = "",
    device: str = "auto",
    mos: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Synthesize a split's texts with the voice of a run and score them; add to RUN/metrics.json.

    limit: see `choose_clips`. judge: see `load_judge`; it transcribes each of RUNGS, and `ladder`
    has the `wer` and `cer` of each, `transcripts` the texts. mos: predict the naturalness of speech
    and recordings (`load_mos`). device: of voice and judge. Each figure is a dict of mean, low and
    high (a 95 % bootstrap interval over clips) and n, the clips it could be measured on; `speakers`
    has the means of each speaker when there are several, `warnings` the clips whose synthesis had
    warnings. Raises RunError for a run that cannot be used, CorpusError when its corpus is not
    prepared, ValueError for an unknown split, one without clips or a judge that cannot be loaded.
    """
    checkpoint = find_checkpoint(run)
    voice = load_voice(checkpoint, device)
    transcribe = load_judge(str(judge), device) if judge else None
    predict = load_mos(device) if mos else None
    corpus = open_corpus(voice.config, checkpoint)
    clips = choose_clips(corpus, split, limit)
    durations: Mapping[str, torch.Tensor] = {}
    if judge and voice.config.tts.attention == DURATIONS:
        spoken = [*corpus.train, *(clip for clip in clips if isinstance(clip, Clip))]
        durations = symbol_durations(spoken, Loader(voice.front_end), voice.tokenizer)
    _synthesize(voice, clips[0], seed)  # the first call allocates threads and buffers: not timed
    rows: list[Row] = []
    for number, clip in enumerate(clips):
        if progress:
            progress(number / len(clips), clip.id)
        rows.append(score(voice, clip, seed, transcribe, durations, predict))
    figures: dict[str, Any] = {
        "run": str(run),
        "checkpoint": checkpoint.name,
        "split": split,
        "seed": seed,
        **_summary(rows, seed, (*FIGURES, *(MOS if mos else ()))),
    }
    names = sorted({clip.speaker for clip in clips})
    if len(names) > 1:
        groups = {name: [row for row in rows if row["speaker"] == name] for name in names}
        figures["speakers"] = {
            name: {"n": len(some)} | {k: v["mean"] for k, v in _summary(some, seed).items()}
            for name, some in groups.items()
        }
    figures["warnings"] = [
        {name: row[name] for name in ("id", "text", "warnings")} for row in rows if row["warnings"]
    ]
    if judge:
        figures |= {"judge": str(judge), **_judged(rows, seed)}
    write_metrics(checkpoint, split, figures, progress)
    return figures


def _summary(rows: Sequence[Row], seed: int, names: Sequence[str] = FIGURES) -> dict[str, Figure]:
    return {name: summarize([row[name] for row in rows], seed) for name in names}


def score(
    voice: Voice,
    clip: Clip | JoinedClips,
    seed: int,
    judge: Judge | None,
    durations: Mapping[str, torch.Tensor],
    mos: Naturalness | None,
) -> Row:
    """Synthesize one clip's text and compare it with the recording.

    durations: frames of the symbols of clips by id, which teacher forcing needs of some voices.
    The mel of the speech is taken from its samples, so that every figure includes the inversion.
    """
    began = time.perf_counter()
    speech = _synthesize(voice, clip, seed)
    work = time.perf_counter() - began
    audio = voice.config.audio
    recording = clip.load()
    wave = np.pad(speech.wave, (0, max(0, audio.hop_length - len(speech.wave))))  # may be empty
    (linear, mel), (_, mel_of_speech) = (
        voice.front_end.features(torch.from_numpy(x)) for x in (recording, wave)
    )
    row = {
        "id": clip.id,
        "text": clip.normalized,
        "speaker": clip.speaker,
        **compare_speech(recording, wave, audio.sample_rate, audio.hop_length, mel, mel_of_speech),
        "alignment": alignment_score(speech.alignment).score,
        "stop_failures": float(not speech.stopped),
        "rtf": work / max(speech.seconds, 1 / audio.sample_rate),
        "warnings": speech.warnings,
    }
    if mos:
        row |= zip(MOS, (mos(x, audio.sample_rate) for x in (wave, recording)), strict=True)
    if judge:
        predicted = _teacher_forced(voice, clip, linear, mel, durations.get(clip.id))
        copy, forced = (
            voice.front_end.to_wave(x[None], None, voice.config.griffin_lim, seed)[0].numpy()
            for x in (linear, predicted)
        )
        waves = zip(RUNGS, (recording, copy, forced, wave), strict=True)
        row |= {name: judge(x, audio.sample_rate) for name, x in waves}
        row["reference"] = plain_words(clip.normalized, normalized=True)
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
def _teacher_forced(
    voice: Voice,
    clip: Clip | JoinedClips,
    linear: torch.Tensor,
    mel: torch.Tensor,
    durations: torch.Tensor | None,
) -> torch.Tensor:
    """Return log10 linear magnitudes (T, F) that the network predicts from the recording's own."""
    model, device = voice.model, voice.device
    assert isinstance(model, Tacotron)
    symbols = torch.tensor([voice.tokenizer.encode(clip.normalized, normalized=True)])
    lengths, frames = torch.tensor([symbols.shape[1]]), torch.tensor([len(mel)])
    speaker = voice.speakers.index(clip.speaker) if clip.speaker in voice.speakers else 0
    target, _ = model.standardize(mel[None].to(device), linear[None].to(device))
    inputs = [symbols, lengths, target, frames, torch.tensor([speaker])]
    if durations is not None:
        inputs.append(durations[None])
    output = model.eval()(*(x.to(device) for x in inputs))
    return model.restore(output.mel, output.linear)[1][0].float().cpu()


def _judged(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    """Return the error rates of every rung, and those of free-running speech by their names."""
    ladder = {}
    for rung in RUNGS:
        pairs = [(row["reference"], row[rung]) for row in rows]
        ladder[rung] = {
            name: interval([[count(*pair)] for pair in pairs], seed)
            for name, count in (("wer", word_errors), ("cer", character_errors))
        }
    names = ("id", "reference", *RUNGS)
    return {
        "wer_by_asr": ladder["free-running"]["wer"],
        "cer_by_asr": ladder["free-running"]["cer"],
        "ladder": ladder,
        "transcripts": [{name: row[name] for name in names} for row in rows],
    }


def tables(figures: dict[str, Any]) -> list[Table]:
    """Return what `evaluate` measured as tables: figures and, with a judge, the ladder."""
    columns = ["figure", "mean", "95 % interval", "clips"]
    rows = [table_row(name, figures[name], ".4g") for name in (*FIGURES, *MOS) if name in figures]
    ladder = [
        [*table_row(rung, rates["wer"], ".1%")[:3], f"{rates['cer']['mean']:.1%}"]
        for rung, rates in figures.get("ladder", {}).items()
    ]
    rungs = [(["speech", "wer_by_asr", "95 % interval", "cer_by_asr"], ladder)]
    return [(columns, rows), *(rungs if ladder else [])]
