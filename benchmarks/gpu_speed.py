"""Stages of gpu_check.py that measure whole training steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from gpu_stages import LOSSES, Batch, Check, build, model_bins, random_batch, set_tf32
from torch import nn

from tacoskip.kernels.accelerate import accelerate


@dataclass(frozen=True)
class Case:
    """A training step of a voice to measure."""

    attention: str
    precision: str
    kernels: bool
    batch: int
    reduction: int
    graph: bool = False

    @property
    def name(self) -> str:
        parts = [self.precision, "kernels" * self.kernels, "graph" * self.graph]
        size = f"batch {self.batch} r={self.reduction}"
        return " ".join([self.attention, *filter(None, parts), size])

    def step(self, check: Check) -> tuple[Callable[[], object], int]:
        """Return a function that takes one whole training step, and its mel frames."""
        batch, symbols, frames = self.batch, *((8, 20) if check.quick else (100, 800))
        settings = [f"tts.attention={self.attention}", f"tts.frames_per_step={self.reduction}"]
        model: Any = build(check, "tts", settings).to(check.device)
        if self.kernels:
            accelerate(model, torch.device(check.device), check.dtype(self.precision))
        data = random_batch(batch, symbols, frames, model_bins(model), device=check.device)
        step = step_function(check, "tts", model, data, self.precision, self.graph)
        return step, batch * frames


def step_function(
    check: Check, task: str, model: nn.Module, data: Batch, precision: str, graph: bool
) -> Callable[[], object]:
    cuda = check.device == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=cuda, capturable=cuda)
    parameters = list(model.train().parameters())

    def step() -> None:
        optimizer.zero_grad()
        with check.autocast(precision):
            loss = LOSSES[task](model, data)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return captured(step) if graph else step


def captured(step: Callable[[], None]) -> Callable[[], object]:
    """A CUDA graph of a step."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


STEPS = [  # in order of interest
    Case("durations", "bf16", True, 32, 2),
    Case("durations", "bf16", True, 32, 2, graph=True),
    Case("durations", "bf16", True, 128, 2, graph=True),
    Case("forward", "bf16", True, 32, 2, graph=True),
    Case("forward", "bf16", True, 32, 2),
    Case("durations", "bf16", False, 32, 2),
    Case("forward", "bf16", False, 32, 2),
    Case("forward", "bf16", True, 32, 5, graph=True),
    Case("durations", "tf32", True, 32, 2, graph=True),
    Case("durations", "fp32", True, 32, 2),
    Case("durations", "fp32", False, 32, 2),
    Case("forward", "bf16", True, 512, 2, graph=True),
    Case("forward", "bf16", True, 256, 5, graph=True),
    Case("forward", "tf32", True, 32, 2, graph=True),
    Case("forward", "fp32", True, 32, 2),
]
SMALL_STEPS = [replace(STEPS[0], batch=2)]


def steps(check: Check) -> None:
    """Whole training steps of a voice: mel frames a second and peak memory; the peer's too."""
    cases = SMALL_STEPS if check.quick else STEPS
    began = time.perf_counter()
    for i, case in enumerate(cases):
        if time.perf_counter() - began > check.seconds - 15:
            check.emit("rest", skipped=f"{len(cases) - i} cases: out of time")
            return
        set_tf32(case.precision == "tf32")
        measure(check, case.name, partial(case.step, check))
        if i == min(4, len(cases) - 1):
            peer(check)


def measure(check: Check, name: str, make: Callable[[], tuple[Callable[[], object], int]]) -> None:
    if check.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        step, frames = make()
        milliseconds = check.milliseconds(step, 1.0)
        figures = {"milliseconds": milliseconds, "frames_per_second": 1000 * frames / milliseconds}
        if check.device == "cuda":
            figures["peak_gigabytes"] = torch.cuda.max_memory_allocated() / 1e9
        check.emit(name, **figures)
    except Exception as error:
        check.emit(name, error=repr(error)[:800])


def peer(check: Check) -> None:
    """Measure Tacotron2 of torchaudio on the same batch."""
    from torchaudio.models import Tacotron2

    batch, symbols, frames = (2, 8, 20) if check.quick else (32, 100, 800)
    for precision in ("bf16",) if check.quick else ("bf16", "fp32"):

        def make(precision: str = precision) -> tuple[Callable[[], object], int]:
            model = Tacotron2(n_symbol=60).to(check.device).train()
            data = random_batch(batch, symbols, frames, 1, device=check.device)
            optimizer = torch.optim.AdamW(model.parameters(), fused=check.device == "cuda")
            mel = data.mel.transpose(1, 2).contiguous()

            def step() -> None:
                optimizer.zero_grad()
                with check.autocast(precision):
                    first, after, stop, _ = model(
                        data.symbols, data.symbol_lengths, mel, data.mel_lengths
                    )
                    loss = (first - mel).square().mean() + (after - mel).square().mean()
                    target = torch.zeros_like(stop)
                    loss = loss + nn.functional.binary_cross_entropy_with_logits(
                        stop.float(), target.float()
                    )
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

            return step, batch * frames

        measure(check, f"torchaudio Tacotron2 {precision} batch {batch}", make)


def recognizer(check: Check) -> None:
    """Whole training steps of a recognizer: seconds of audio a second."""
    set_tf32(True)
    cases = (("bf16", True, 32), ("bf16", False, 32), ("bf16", True, 256))
    for precision, fast, batch in cases[: 1 if check.quick else None]:
        batch, frames = (2, 40) if check.quick else (batch, 800)

        def make(
            fast: bool = fast, batch: int = batch, frames: int = frames, precision: str = precision
        ) -> tuple[Callable[[], object], int]:
            model = build(check, "asr", []).to(check.device)
            if fast:
                accelerate(model, torch.device(check.device), check.dtype(precision))
            data = random_batch(batch, 60, frames, 1, device=check.device)
            return step_function(check, "asr", model, data, precision, False), batch * frames

        measure(check, f"{precision}{' kernels' if fast else ''} batch {batch}", make)


def profile(check: Check) -> None:
    """Where the GPU's time goes in a step: device rows only, and the share it is busy."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    set_tf32(True)
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if check.device == "cuda" else [])
    for case in SMALL_STEPS if check.quick else (STEPS[0], STEPS[4]):
        step, _ = case.step(check)
        for _ in range(1 if check.quick else 3):
            step()
        check.wait()
        began = time.perf_counter()
        with record(activities=kinds) as trace:
            for _ in range(1 if check.quick else 2):
                step()
            check.wait()
        wall = 1e6 * (time.perf_counter() - began)
        rows = [
            (row.key, row.self_device_time_total, row.count)
            for row in trace.key_averages()
            if row.device_type != torch.autograd.DeviceType.CPU
        ]
        busy = sum(row[1] for row in rows)
        check.emit(case.name, busy_share=busy / wall, device_ms=busy / 2000)
        for key, microseconds, count in sorted(rows, key=lambda row: -row[1])[:25]:
            check.emit(key[:90], device_ms=microseconds / 2000, calls=count / 2)
