"""Stages of gpu_check.py that train: speed and resume of the trainer, repeatability, a voice."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from gpu_stages import (
    NO_DROPOUT,
    ROOT,
    SMALL,
    Check,
    build,
    gradients,
    model_bins,
    random_batch,
    set_tf32,
    voice_loss,
)
from torch import Tensor

from tacoskip.config import load_config
from tacoskip.kernels.accelerate import accelerate
from tacoskip.training import train

SENTENCES = (
    "The sun went down behind the long white hills.",
    "She asked him twice for the key to the old house.",
    "Nobody had seen the river so high in fifty years.",
)


def settings(check: Check, run: Path) -> list[str]:
    """Overrides of `base/tts` that train on the bundle's corpus."""
    small = [
        "data.batch_seconds=4",
        "data.workers=0",
        "tts.frames_per_step=5",
        *SMALL["both"],
        *SMALL["tts"],
    ]
    return [
        "data.corpus=folder",
        f"data.dir={check.bundle / 'prepared'}",
        "audio.sample_rate=16000",
        f"train.device={check.device}",
        f"run={run}",
        "train.warmup_steps=100",
        "tts.frames_per_step=3",
        "data.batch_seconds=240",
        "data.max_batch=64",
        f"data.workers={min(14, os.cpu_count() or 1)}",
        "train.evaluate_every=1000000",
        *(small if check.quick else []),
    ]


def corpus_is_there(check: Check) -> bool:
    if (check.bundle / "prepared").is_dir():
        return True
    check.emit("corpus", skipped=f"none in {check.bundle / 'prepared'}")
    return False


def train_steps(
    check: Check, folder: Path, steps: int, stop: int = 0, overrides: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Train to `steps`, or resume there after a signal at step `stop`; the weights at the end."""
    own = [f"train.max_steps={steps}", "train.log_every=10", *overrides]
    config = load_config("base/tts", [*settings(check, folder), *own])

    sent = list[int]()

    def interrupt(progress: Any) -> None:
        if progress.step >= stop and not sent:
            sent.append(progress.step)
            os.kill(os.getpid(), signal.SIGINT)

    # Several precisions in one process.
    AcceleratorState._reset_state(reset_partial_state=True)
    if stop:
        with contextlib.suppress(KeyboardInterrupt):
            train(config, interrupt)
    train(config)
    newest = max((folder / "checkpoints").glob("step-*.pt"))
    return dict(flat(torch.load(newest, map_location="cpu", weights_only=False)))


def flat(value: Any, name: str = "") -> list[tuple[str, Tensor]]:
    """All tensors of a checkpoint by path."""
    if isinstance(value, Tensor):
        return [(name, value)]
    pairs = value.items() if isinstance(value, dict) else ()
    return [tensor for key, each in pairs for tensor in flat(each, f"{name}.{key}")]


def note(progress: Any, times: list[float]) -> None:
    if not progress.message:
        times.append(time.perf_counter())


def trainer(check: Check) -> None:
    """Steps of `tacoskip train` with and without CUDA graphs."""
    if not corpus_is_there(check):
        return
    work, steps = Path(tempfile.mkdtemp()), 4 if check.quick else 300
    for graph in ("1", "0"):
        os.environ["TACOSKIP_CUDA_GRAPH"] = graph
        began, times = time.perf_counter(), list[float]()
        config = load_config(
            "base/tts",
            [
                *settings(check, work / f"speed{graph}"),
                f"train.max_steps={steps}",
                f"train.log_every={1 if check.quick else 10}",
            ],
        )
        train(config, lambda progress: note(progress, times))  # noqa: B023
        late = times[len(times) // 2 :]
        check.emit(
            f"{steps} steps, graphs {'on' if graph == '1' else 'off'}",
            seconds=time.perf_counter() - began,
            milliseconds_a_step=1000
            * (late[-1] - late[0])
            / max(1, (1 if check.quick else 10) * (len(late) - 1)),
        )


def resume(check: Check) -> None:
    """Weights of interrupted and resumed runs against those of uninterrupted ones."""
    if not corpus_is_there(check):
        return
    work = Path(tempfile.mkdtemp())
    steps, stop = (4, 2) if check.quick else (60, 30)
    for name, overrides in (
        ("bf16", ("train.precision=bf16",)),
        ("fp32", ("train.precision=fp32",)),
        ("fp32 deterministic", ("train.precision=fp32", "train.deterministic=true")),
    ):
        ends = [
            train_steps(
                check, work / f"{name}{stop_at}".replace(" ", "_"), steps, stop_at, overrides
            )
            for stop_at in (0, stop)
        ]
        same = [name for name in ends[0] if torch.equal(ends[0][name], ends[1][name])]
        check.emit(
            f"resume {name}",
            passed=len(same) == len(ends[0]),
            tensors=len(ends[0]),
            differ=[name for name in ends[0] if name not in same][:3],
        )
        if check.quick:
            break


def repeat(check: Check) -> None:
    """The gradients of one step computed twice: which parameters differ, and what cures it."""
    size = (2, 8, 12) if check.quick else (16, 60, 300)
    cures: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "cudnn.deterministic": lambda: setattr(torch.backends.cudnn, "deterministic", True),
        "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    }
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    set_tf32(False)
    for name, cure in cures.items():
        cure()
        for precision, fast in (("fp32", True), ("fp32", False), ("bf16", True)):
            model = build(check, "tts", NO_DROPOUT["tts"]).to(check.device)
            if fast:
                accelerate(model, torch.device(check.device), check.dtype(precision))
            torch.manual_seed(1)
            batch = random_batch(*size, model_bins(model), ragged=True).to(check.device)
            found = []
            for _ in range(2 if check.quick else 4):
                model.zero_grad()
                found.append(gradients(check, model, voice_loss, batch, precision)[1])
            differ = [n for n in found[0] if any(not torch.equal(found[0][n], x[n]) for x in found)]
            label = f"{precision}{' kernels' if fast else ''}, {name}"
            check.emit(label, differ=len(differ), of=len(found[0]), first=differ[-4:])
            if check.quick:
                return


def training(check: Check) -> None:
    """A voice from nothing on real speech within the time given, and three unseen sentences."""
    if not corpus_is_there(check):
        return
    run, began = Path(tempfile.mkdtemp()) / "voice", time.perf_counter()
    minutes = max(0.2, (check.seconds - 75) / 60)
    steps = 3 if check.quick else 4000
    overrides = ["recipe=base/tts", *settings(check, run), f"train.max_steps={steps}"]
    overrides += [f"train.max_minutes={minutes:.2f}", "train.log_every=25"]
    overrides += ["tts.attention=durations", "tts.frames_per_step=2", "train.learning_rate=2e-3"]
    call = [sys.executable, "-m", "tacoskip.cli", "train", "--json", *overrides]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    check.emit(
        "training",
        passed=done.returncode == 0,
        seconds=seconds,
        output=done.stdout[-1500:],
        messages=done.stderr[-1500:],
    )
    for i, sentence in enumerate(SENTENCES[: 1 if check.quick else 3]):
        out = check.results.parent / f"gpu_sentence_{i}.wav"
        call = [sys.executable, "-m", "tacoskip.cli", "synthesize", str(run), sentence]
        call += ["-o", str(out), "--json"]
        done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
        text = (done.stdout if done.returncode == 0 else done.stderr)[-800:]
        check.emit(f"sentence {i}", passed=done.returncode == 0, output=text)
