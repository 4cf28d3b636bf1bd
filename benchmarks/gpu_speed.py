"""Stages of gpu_check.py that measure whole training steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from gpu_stages import LOSSES, Check, build, random_batch
from torch import Tensor, nn

from tacoskip.data.loading import Batch
from tacoskip.training.cuda_graph import CudaStream
from tacoskip.training.device import set_tf32


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
        model: Any = build(check, "tts", settings, self.precision * self.kernels)
        data = random_batch(batch, symbols, frames, device=check.device)
        step = step_function(check, LOSSES["tts"], model, data, self.precision, self.graph)
        return step, batch * frames


def step_function(
    check: Check,
    loss: Callable[..., Tensor],
    model: nn.Module,
    data: Batch,
    precision: str,
    graph: bool = False,
) -> Callable[[], object]:
    cuda = check.device == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=cuda, capturable=cuda)
    parameters = list(model.train().parameters())

    def step() -> None:
        optimizer.zero_grad()
        with check.autocast(precision):
            value = loss(model, data)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return captured(step) if graph else step


def captured(step: Callable[[], None]) -> Callable[[], object]:
    """A CUDA graph of a step."""
    stream: Any = CudaStream()
    for _ in range(3):
        stream.run(step)
    replay: Callable[[], object] = stream.capture(step)[0]
    return replay


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
            model = Tacotron2(n_symbol=60).to(check.device)
            data = random_batch(batch, symbols, frames, 1, device=check.device)
            return step_function(check, peer_loss, model, data, precision), batch * frames

        measure(check, f"torchaudio Tacotron2 {precision} batch {batch}", make)


def peer_loss(model: Any, data: Batch) -> Tensor:
    mel = data.mel.transpose(1, 2)
    first, after, stop, _ = model(data.symbols, data.symbol_lengths, mel, data.mel_lengths)
    stop_loss = nn.functional.binary_cross_entropy_with_logits(stop, torch.zeros_like(stop))
    return (first - mel).square().mean() + (after - mel).square().mean() + stop_loss


def recognizer(check: Check) -> None:
    """Whole training steps of a recognizer: seconds of audio a second."""
    set_tf32(True)
    cases = (
        [("bf16", 2, 40)] if check.quick else [("bf16", 32, 800), ("", 32, 800), ("bf16", 256, 800)]
    )
    for kernels, batch, frames in cases:

        def make(case: Any = (kernels, batch, frames)) -> tuple[Callable[[], object], int]:
            model, data = (
                build(check, "asr", [], case[0]),
                random_batch(case[1], 60, case[2], 1, device=check.device),
            )
            return step_function(check, LOSSES["asr"], model, data, "bf16"), case[1] * case[2]

        measure(check, f"bf16{' kernels' * bool(kernels)} batch {batch}", make)


def griffin_lim(check: Check) -> None:
    """Ten iterations: tacoskip's on the CPU, torchaudio's on the device; times real time."""
    from torchaudio.functional import griffinlim

    from tacoskip.audio import griffin_lim as invert

    batch, frames = (1, 40) if check.quick else (32, 400)
    magnitude, window = torch.rand(batch, frames, 513), torch.hann_window(800, device=check.device)
    spectrum, more = magnitude.transpose(1, 2).to(check.device), (1.0, 10, 0.95, None, True)
    for name, run in (
        ("tacoskip on cpu", partial(invert, magnitude, 1024, 200, 800)),
        (
            f"torchaudio on {check.device}",
            partial(griffinlim, spectrum, window, 1024, 200, 800, *more),
        ),
    ):
        check.emit(name, times_real_time=12.5 * batch * frames / check.milliseconds(run))


def profile(check: Check) -> None:
    """Where the GPU's time goes in a step: device rows only, and the share it is busy."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    set_tf32(True)
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if check.device == "cuda" else [])
    for case in SMALL_STEPS if check.quick else (STEPS[0], STEPS[1], STEPS[4]):
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
