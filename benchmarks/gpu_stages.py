"""The stages of gpu_check.py: each takes a `Check` and emits rows of figures.

B batch, S symbols, T mel frames, H hidden channels.
"""

import copy
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tacoskip.blocks import BLOCKS
from tacoskip.config import load_config
from tacoskip.data.loading import Batch
from tacoskip.kernels.accelerate import accelerate
from tacoskip.models.attention import ATTENTIONS, StepwiseMonotonic
from tacoskip.models.durations import DurationDecoder
from tacoskip.run_folder import build_network
from tacoskip.training import losses
from tacoskip.training.device import set_tf32

ROOT = Path(__file__).resolve().parents[1]
N_SYMBOLS = 60
FORWARD = ["tts.attention=forward"]
RANDOM = ("stochastic", "deactivable", "dynamic", "fractal")  # they draw numbers on the device
NO_DROPOUT = {
    "tts": ["tts.prenet_dropout=0", "tts.frame_dropout=0"],
    "asr": ["asr.dropout=0", "asr.time_masks=0", "asr.frequency_masks=0"],
}


PARTS = ("bank_size=2", "bank_channels=8", "depth=1", "channels=8", "gru_channels=8")
SMALL = {  # --quick
    "both": [f"cbhg.{part}" for part in PARTS],
    "tts": ["tts.attention_rnn_channels=16", "tts.attention_channels=8", "tts.decoder_channels=16"]
    + [f"postnet.{part}" for part in PARTS],
    "asr": ["asr.channels=8"],
}


@dataclass
class Check:
    """What a stage needs: where it runs, in small or in full, and where figures go."""

    device: str
    quick: bool
    stage: str
    results: Path
    bundle: Path
    seconds: float

    def emit(self, name: str, **figures: Any) -> None:
        """Append one row to the results and print it."""
        row = {"stage": self.stage, "name": name, **figures}
        with self.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def milliseconds(self, run: Callable[[], object], seconds: float = 0.5) -> float:
        """Median time of a run: at least 3 runs, about `seconds` in all, after two unseen ones."""
        for _ in range(1 if self.quick else 2):
            run()
        self.wait()
        times, began = list[float](), time.perf_counter()
        while len(times) < 3 or time.perf_counter() - began < (0 if self.quick else seconds):
            start = time.perf_counter()
            run()
            self.wait()
            times.append(1000 * (time.perf_counter() - start))
        return sorted(times)[len(times) // 2]

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        if precision == "bf16":
            return torch.autocast(self.device, torch.bfloat16)
        return nullcontext()

    def dtype(self, precision: str) -> torch.dtype:
        return torch.bfloat16 if precision == "bf16" else torch.float32


def random_batch(
    batch: int,
    symbols: int,
    frames: int,
    bins: int = 1025,
    ragged: bool = False,
    device: str = "cpu",
) -> Batch:
    """Random features and even durations: full rows, or ragged ones."""
    lengths = torch.full((batch,), symbols), torch.full((batch,), frames)
    if ragged:
        for each in lengths:
            each[1:] = (each[1:] * (0.6 + 0.4 * torch.rand(batch - 1))).long()
    real, total = (each[:, None] for each in lengths)
    ends = torch.minimum(torch.arange(symbols + 1), real) * total // real
    return Batch(
        torch.randint(1, N_SYMBOLS, (batch, symbols)),
        lengths[0],
        torch.randn(batch, frames, 80),
        torch.randn(batch, frames, bins),
        lengths[1],
        torch.zeros(batch, dtype=torch.long),
        *([], []),
        durations=ends.diff(dim=1),
    ).to(device)


def build(check: Check, task: str, overrides: list[str], kernels: str = "") -> nn.Module:
    """A network on the device, always of the same weights, with the kernels of a precision."""
    torch.manual_seed(0)
    small = [*SMALL["both"], *SMALL[task]] if check.quick else []
    config = load_config(f"base/{task}", ["data.corpus=folder", *small, *overrides])
    model = build_network(config, N_SYMBOLS, 1).to(check.device)
    return with_kernels(check, model, kernels) if kernels else model


def with_kernels(check: Check, model: nn.Module, precision: str) -> nn.Module:
    return accelerate(model, torch.device(check.device), check.dtype(precision))


def voice_loss(model: Any, batch: Batch) -> Tensor:
    inputs = batch.symbols, batch.symbol_lengths, batch.mel, batch.mel_lengths, batch.speakers
    driven = isinstance(model.decoder, DurationDecoder)
    out = model(*inputs, batch.durations if driven else None)
    lengths, reduction = batch.mel_lengths, model.reduction
    loss = losses.masked_l1(out.mel, batch.mel, lengths)
    loss = loss + losses.masked_l1(out.linear, batch.linear, lengths)
    if driven:
        durations: Any = batch.durations
        return loss + losses.duration_loss(out.log_durations, durations, batch.symbol_lengths)
    guided = losses.guided_attention_loss(out.alignments, lengths, batch.symbol_lengths, reduction)
    return loss + guided + 0.5 * losses.stop_loss(out.stop_logits, lengths, reduction)


def recognizer_loss(model: Any, batch: Batch) -> Tensor:
    lengths = (batch.symbol_lengths / 3).ceil().long()
    symbols = batch.symbols[:, : int(batch.symbols.shape[1] / 3) + 1]
    out = model(batch.mel, batch.mel_lengths, symbols)
    loss = losses.ctc_loss(out.log_probs, out.lengths, symbols, lengths)
    if out.spelled is not None:
        loss = loss + losses.spelling_loss(out.spelled, symbols, lengths)
    return loss


LOSSES = {"tts": voice_loss, "asr": recognizer_loss}


def gradients(
    check: Check, model: nn.Module, loss: Callable[..., Tensor], batch: Batch, precision: str
) -> tuple[float, dict[str, Tensor]]:
    """Loss and all gradients of a copy of the model in training."""
    with check.autocast(precision) if batch.mel.device.type == check.device else nullcontext():
        value = loss(model.train(), batch)
    value.backward()
    found = {n: p.grad.double().cpu() for n, p in model.named_parameters() if p.grad is not None}
    return float(value.detach()), found


def environment(check: Check) -> None:
    """Versions and ceilings: a copy and matrix products."""
    import platform

    figures: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version()}
    if check.device == "cuda":
        import triton

        figures |= {"triton": triton.__version__, "gpu": torch.cuda.get_device_name()}
    check.emit("environment", **figures, date=time.strftime("%Y-%m-%d %H:%M"))
    size, floats = (256, 1 << 16) if check.quick else (8192, 1 << 28)
    source = torch.randn(floats, device=check.device)
    target = torch.empty_like(source)
    milliseconds = check.milliseconds(lambda: target.copy_(source))
    check.emit("copy", terabytes_per_second=8e-9 * floats / milliseconds)
    for name in ("fp32", "tf32", "bf16"):
        set_tf32(name == "tf32")
        a = torch.randn(size, size, device=check.device, dtype=check.dtype(name))
        milliseconds = check.milliseconds(lambda a=a: a @ a)
        check.emit(f"matmul {name}", teraflops=2e-9 * size**3 / milliseconds)


def kernel_tests(check: Check) -> None:
    """The kernels' tests against float64: on the GPU itself, or in Triton's interpreter."""
    chosen = ["-k", "norm_adds"] if check.quick else ["-n", "8"]
    run_pytest(check, ["tests/kernels/triton", "-m", "not slow", *chosen])


def compile_kernels(check: Check) -> None:
    """Compile Triton's kernels, a network a process, into the cache that later stages read."""
    parts = [
        (task, overrides, precision, batch)
        for task, overrides, batch in [
            ("tts", ["tts.attention=durations"], 2),
            ("tts", FORWARD, 2),
            ("tts", FORWARD, 256),
            ("tts", FORWARD, 512),
            ("tts", ["tts.attention=bahdanau"], 2),
            ("tts", ["tts.attention=location"], 2),
            ("asr", ["asr.decoder=attention"], 2),
        ]
        for precision in ("bf16", "fp32")
        if precision == "bf16" or batch == 2
    ]
    parts = parts[:1] if check.quick else parts
    with ProcessPoolExecutor(len(parts), multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(compile_part, check, *part): part for part in parts}
        for future, part in running.items():
            if error := future.exception():
                check.emit(" ".join(map(str, part)), error=repr(error)[:1500])


def compile_part(check: Check, task: str, overrides: list[str], precision: str, batch: int) -> None:
    """One small training step."""
    model = build(check, task, overrides, precision)
    data = random_batch(batch, 70, 80, device=check.device)
    gradients(check, model, LOSSES[task], data, precision)


def gpu_tests(check: Check) -> None:
    """Tests marked gpu; without a GPU they are only collected."""
    run_pytest(check, ["tests/gpu", "-m", "gpu", *([] if check.device == "cuda" else ["--co"])])


def run_pytest(check: Check, arguments: list[str]) -> None:
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    interpret = "0" if check.device == "cuda" else "1"
    settings = dict(os.environ, TRITON_INTERPRET=interpret, OMP_NUM_THREADS="2")
    done = subprocess.run(call, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))]
    check.emit("pytest", passed=done.returncode in (0, 5), summary=lines[-1:], failed=failed[:30])


def agreement(check: Check) -> None:
    """Losses and gradients on the device, plain and with kernels, against float64 on the CPU."""
    set_tf32(False)
    cases = [("tts", ["tts.attention=durations", "tts.frames_per_step=2"])]
    cases += [("tts", [*FORWARD, f"tts.frames_per_step={r}"]) for r in (2, 5)]
    cases += [("asr", []), ("asr", ["asr.decoder=attention"])]
    cases += [("tts", [f"tts.attention={a}"]) for a in ATTENTIONS if a != "forward"]
    small = [*SMALL["both"], *SMALL["tts"], "tts.attention=durations"]
    cases += [("tts", [f"block={family}", *small]) for family in BLOCKS if family not in RANDOM]
    began = time.perf_counter()
    for i, (task, overrides) in enumerate(cases[: 1 if check.quick else None]):
        if time.perf_counter() - began > check.seconds - 10:
            check.emit("rest", skipped=f"{len(cases) - i} cases: out of time")
            return
        model = build(check, task, [*NO_DROPOUT[task], *overrides])
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if isinstance(module, StepwiseMonotonic):
                module.noise = 0.0
        size = (2, 8, 12) if check.quick else (4, 70, 100)
        torch.manual_seed(1)
        batch = random_batch(*size, ragged=True)
        moved = batch.to(check.device)
        reference = copy.deepcopy(model).cpu().double()
        exact = replace(batch, mel=batch.mel.double(), linear=batch.linear.double())
        loss, expected = gradients(check, reference, LOSSES[task], exact, "fp64")
        for precision, kernels in itertools.product(("fp32", "bf16"), (False, True)):
            name = f"{task} {' '.join(overrides[:2])} {precision}{' kernels' if kernels else ''}"
            try:
                other = copy.deepcopy(model)
                if kernels:
                    with_kernels(check, other, precision)
                value, found = gradients(check, other, LOSSES[task], moved, precision)
                check.emit(name, **differences(loss, expected, value, found))
            except Exception as error:
                check.emit(name, error=repr(error)[:500])


def differences(
    loss: float, expected: dict[str, Tensor], value: float, found: dict[str, Tensor]
) -> dict[str, Any]:
    """Relative differences of the loss, of all gradients together, and of the worst parameter."""
    norm = lambda each: float(torch.stack([x.norm() for x in each]).norm())  # noqa: E731
    off = {name: found[name] - expected[name] for name in expected}
    total = norm(expected.values())
    # Parameters without a gradient of note are rounding alone.
    known = {n: x for n, x in expected.items() if float(x.norm()) > 1e-6 * total}
    worst = max(known, key=lambda n: float(off[n].norm() / expected[n].norm()))
    return {
        "loss": abs(value - loss) / abs(loss),
        "gradients": norm(off.values()) / total,
        "worst": float(off[worst].norm() / expected[worst].norm()),
        "worst_parameter": worst,
        "finite": all(bool(x.isfinite().all()) for x in found.values()),
    }
