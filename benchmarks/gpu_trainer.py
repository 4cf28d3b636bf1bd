"""Stages of gpu_check.py that train: speed and resume of the trainer, and a voice from nothing."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from gpu_stages import ROOT, SMALL, Check
from torch import Tensor

from tacoskip.audio import FrontEnd
from tacoskip.config import load_config
from tacoskip.data.batches import TrainBatches
from tacoskip.data.prepare import prepare
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.text import Tokenizer
from tacoskip.training import train
from tacoskip.training.features import DeviceFeatures

SENTENCES = (
    "The sun went down behind the long white hills.",
    "She asked him twice for the key to the old house.",
    "Nobody had seen the river so high in fifty years.",
)


def corpus(check: Check) -> list[str]:
    """Settings of the bundle's corpus, or in a quick check of a made one; empty without any."""
    settings = ["data.corpus=folder", "audio.sample_rate=16000"]
    prepared = check.bundle / "prepared"
    if not check.quick and not prepared.is_dir():
        check.emit("corpus", skipped=f"none in {prepared}")
        return []
    if check.quick:
        folder = Path(tempfile.mkdtemp())
        prepared = folder / "prepared"
        (folder / "wavs").mkdir()
        lines = [f"{i}|one two three|one two three" for i in range(8)]
        (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        buzz = 0.3 * np.sin(np.arange(16000) / 16) * np.sin(np.arange(16000) / 1000)
        for i in range(8):
            soundfile.write(folder / "wavs" / f"{i}.wav", buzz, 16000)
        settings.append(f"data.root={folder}")
    settings.append(f"data.dir={prepared}")
    if check.quick:
        prepare(load_config("base/tts", settings))
    return settings


def training_settings(check: Check, run: Path) -> list[str]:
    """What every training here sets beside its corpus; later settings win."""
    small = ["data.batch_seconds=4", "data.workers=0", "tts.frames_per_step=5"]
    return [
        f"train.device={check.device}",
        f"run={run}",
        "tts.attention=durations",
        "tts.frames_per_step=2",
        "data.batch_seconds=240",
        "data.max_batch=64",
        f"data.workers={min(14, os.cpu_count() or 1)}",
        "train.learning_rate=2e-3",
        "train.warmup_steps=100",
        "train.evaluate_every=1000000",
        *([*small, *SMALL["both"], *SMALL["tts"]] if check.quick else []),
    ]


def run_trainer(check: Check, run: Path, settings: list[str], stop: int = 0) -> dict[str, float]:
    """Train; with `stop`, interrupt at that step and resume. Returns the last scalars logged."""
    config = load_config("base/tts", [*training_settings(check, run), *settings])
    scalars = dict[str, float]()
    interrupted = not stop

    def note(progress: Any) -> None:
        nonlocal interrupted
        scalars.update(progress.scalars)
        if not interrupted and progress.step >= stop:
            interrupted = True
            os.kill(os.getpid(), signal.SIGINT)

    if stop:
        with contextlib.suppress(KeyboardInterrupt):
            train(config, note)
    train(config, note)
    return scalars


def trainer(check: Check) -> None:
    """Speed of `tacoskip train`'s last 50 steps, and the share that waits for the loader.

    "forward" feeds its frames back and attends; "durations" does neither.
    """
    data = corpus(check)
    work, steps, every = Path(tempfile.mkdtemp()), *((4, 1) if check.quick else (300, 10))
    cases = [("durations", "1", "1"), ("durations", "1", "0"), ("durations", "0", "1")]
    cases += [("forward", "1", "1"), ("forward", "0", "1")]
    for kind, graphs, features in (cases[:1] if check.quick else cases) if data else []:
        os.environ |= {"TACOSKIP_CUDA_GRAPH": graphs, "TACOSKIP_DEVICE_FEATURES": features}
        own = [f"tts.attention={kind}", f"train.max_steps={steps}", f"train.log_every={every}"]
        began = time.perf_counter()
        last = run_trainer(check, work / f"{kind}{graphs}{features}", [*data, *own])
        check.emit(
            f"{kind}, {steps} steps, graphs {graphs}, device features {features}",
            seconds=time.perf_counter() - began,
            **{name: last[name] for name in ("frames_per_second", "loader_share")},
        )


def loader(check: Check) -> None:
    """Mel frames a second of the loader alone, and of features on the device."""
    data, count = corpus(check), 2 if check.quick else 40
    for samples in (False, True) if data else []:
        config = load_config("base/tts", [*training_settings(check, Path("none")), *data])
        prepared, front_end = PreparedCorpus.of(config), FrontEnd(config.audio)
        encoder = Tokenizer(config.text)
        batches = TrainBatches(prepared.train, config.data, front_end, encoder, prepared.speakers)
        batches.pin_memory = check.device == "cuda"
        if samples:
            batches.loader.send_samples()
        for epochs in ("first", "later"):
            began = time.perf_counter()
            frames = sum(int(next(batches).mel_lengths.sum()) for _ in range(count))
            speed = frames / (time.perf_counter() - began)
            name = f"{'samples' if samples else 'features'}, {epochs} {count} batches"
            check.emit(name, frames_per_second=speed)
        batch = next(batches)
        batches.close()
    if data:
        features = DeviceFeatures(front_end, check.device, linear=True)
        milliseconds = check.milliseconds(lambda: features(batch.to(check.device, True)))
        frames = int(batch.mel_lengths.sum())
        speed = 1000 * frames / milliseconds
        check.emit("features on the device", milliseconds=milliseconds, frames_per_second=speed)


RESUMED = [  # name, settings, CUDA graphs
    ("bf16 durations", ["train.precision=bf16"], "1"),
    ("bf16 forward", ["train.precision=bf16", "tts.attention=forward"], "1"),
    ("fp32 durations deterministic", ["train.precision=fp32", "train.deterministic=true"], "1"),
    ("bf16 durations, no graphs", ["train.precision=bf16"], "0"),
    ("fp32 durations", ["train.precision=fp32"], "1"),
    ("fp32 durations, no graphs", ["train.precision=fp32"], "0"),
]


def resume(check: Check) -> None:
    """Weights and optimizer of an interrupted and resumed run against an uninterrupted one's."""
    data, began = corpus(check), time.perf_counter()
    work, steps, stop = Path(tempfile.mkdtemp()), *((4, 2) if check.quick else (60, 30))
    cases = RESUMED[:1] if check.quick else RESUMED
    for number, (name, own, graph) in enumerate(cases) if data else []:
        if time.perf_counter() - began > check.seconds - 30:
            check.emit("rest", skipped=f"{len(cases) - number} cases: out of time")
            return
        os.environ |= {"TACOSKIP_CUDA_GRAPH": graph, "TACOSKIP_DEVICE_FEATURES": "1"}
        every = 2 if check.quick else 10
        own = [*data, *own, f"train.max_steps={steps}", f"train.log_every={every}"]
        ends = []
        for stop_at in (0, stop):
            run = work / f"{number}-{stop_at}"
            run_trainer(check, run, own, stop_at)
            newest = max((run / "checkpoints").glob("step-*.pt"))
            ends.append(dict(flat(torch.load(newest, map_location="cpu", weights_only=False))))
        differ = [key for key in ends[0] if not torch.equal(ends[0][key], ends[1][key])]
        check.emit(name, passed=not differ, tensors=len(ends[0]), differ=differ[:3])


def flat(value: Any, name: str = "") -> list[tuple[str, Tensor]]:
    """All tensors of a checkpoint by path."""
    if isinstance(value, Tensor):
        return [(name, value)]
    pairs = value.items() if isinstance(value, dict) else ()
    return [tensor for key, each in pairs for tensor in flat(each, f"{name}.{key}")]


def training(check: Check) -> None:
    """A voice from nothing on real speech within the time given, and three unseen sentences."""
    data = corpus(check)
    if not data:
        return
    run, began = Path(tempfile.mkdtemp()) / "voice", time.perf_counter()
    minutes = max(0.2, (check.seconds - 75) / 60)
    own = [f"train.max_steps={3 if check.quick else 20000}", f"train.max_minutes={minutes:.2f}"]
    own += ["train.log_every=25", *data]
    command("training", check, "train", *training_settings(check, run), *own, began=began)
    for i, sentence in enumerate(SENTENCES[: 1 if check.quick else 3]):
        out = check.results.parent / f"gpu_sentence_{i}.wav"
        command(f"sentence {i}", check, "synthesize", str(run), sentence, "-o", str(out))


def command(name: str, check: Check, verb: str, *arguments: str, began: float = 0.0) -> None:
    """Run a tacoskip command and emit what it says."""
    base = ["recipe=base/tts"] if verb == "train" else []
    call = [sys.executable, "-m", "tacoskip.cli", verb, "--json", *base, *arguments]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    figures: dict[str, Any] = {"output": done.stdout[-1500:], "messages": done.stderr[-1500:]}
    if began:
        figures["seconds"] = time.perf_counter() - began
    check.emit(name, passed=done.returncode == 0, **figures)
