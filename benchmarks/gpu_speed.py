"""Stages of gpu_check.py that measure time: kernels alone, and whole training steps."""

import time
from collections.abc import Callable
from typing import Any

import torch
from gpu_stages import LOSSES, Batch, Check, build, model_bins, random_batch, set_tf32
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d
from tacoskip.kernels.accelerate import accelerate, plain
from tacoskip.models.attention_loop import AttentionLoop
from tacoskip.models.cbhg import BiGRU, ConvBank
from tacoskip.models.decoder import ResidualGRU

Arguments = tuple[Tensor, ...]


def kernel_cases(check: Check) -> dict[str, tuple[nn.Module, Arguments]]:
    """Modules the table replaces, with inputs of the size of a training step."""
    batch, frames, steps, symbols = (2, 6, 3, 5) if check.quick else (32, 800, 400, 100)
    narrow, wide = (8, 16) if check.quick else (128, 256)
    mask = torch.ones(batch, frames, dtype=torch.bool)
    here = torch.ones(batch, symbols, dtype=torch.bool)
    cases: dict[str, tuple[nn.Module, Arguments]] = {
        "BiGRU": (BiGRU(narrow, narrow), (torch.randn(batch, frames, narrow), mask)),
        "ResidualGRU": (ResidualGRU(wide), (torch.randn(batch, steps, wide),)),
        "ConvBank": (ConvBank(narrow, narrow, 8), (torch.randn(batch, frames, narrow), mask)),
        "MaskedBatchNorm1d": (
            MaskedBatchNorm1d(narrow, relu=True),
            (torch.randn(batch, frames, narrow), mask),
        ),
    }
    for attention in ("bahdanau", "location", "forward"):
        loop = AttentionLoop(narrow, wide, wide, attention, narrow)
        memory = torch.randn(batch, symbols, wide)
        cases[attention] = (loop, (torch.randn(batch, steps, narrow), memory, here))
    return cases


def kernels(check: Check) -> None:
    """Forward and forward + backward of each replaced module, plain and with kernels.

    Kernels that the table leaves out in float32 are measured too.
    """
    from tacoskip.kernels.triton import replacements

    set_tf32(False)
    replacements.PLAIN_IN_FLOAT32 = ()
    for name, (module, inputs) in kernel_cases(check).items():
        module = module.to(check.device).train()
        given = tuple(x.to(check.device) for x in inputs)
        for precision in ("bf16", "fp32"):
            for fast in (True, False):
                plain(module)
                if fast:
                    accelerate(module, torch.device(check.device), check.dtype(precision))
                label = f"{name} {precision} {'kernel' if fast else 'plain'}"
                try:
                    check.emit(label, **module_times(check, module, given, precision))
                except Exception as error:
                    check.emit(label, error=repr(error)[:500])


def module_times(
    check: Check, module: nn.Module, inputs: Arguments, precision: str
) -> dict[str, float]:
    given = [x.detach().requires_grad_() if x.is_floating_point() else x for x in inputs]

    def forward() -> Tensor:
        with check.autocast(precision):
            out = module(*given)
        return sum(x.float().mean() for x in out) if isinstance(out, tuple) else out.float().mean()

    return {
        "forward_ms": check.milliseconds(forward, 0.2),
        "both_ms": check.milliseconds(lambda: forward().backward(), 0.3),
    }


def voice_step(
    check: Check, precision: str, fast: bool, batch: int, reduction: int, graph: bool
) -> tuple[Callable[[], object], int]:
    """Return a function that takes one whole training step of a voice, and its mel frames."""
    symbols, frames = (8, 20) if check.quick else (100, 800)
    model: Any = build(check, "tts", [f"tts.frames_per_step={reduction}"]).to(check.device)
    if fast:
        accelerate(model, torch.device(check.device), check.dtype(precision))
    data = random_batch(batch, symbols, frames, model_bins(model), device=check.device)
    return step_function(check, "tts", model, data, precision, graph), batch * frames


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


STEPS = [  # precision, kernels, batch, frames a step, CUDA graph: in order of interest
    ("bf16", True, 32, 2, True),
    ("bf16", True, 32, 2, False),
    ("bf16", True, 128, 2, True),
    ("bf16", False, 32, 2, False),
    ("bf16", True, 32, 5, True),
    ("fp32", True, 32, 2, False),
    ("fp32", False, 32, 2, False),
    ("bf16", True, 512, 2, True),
    ("bf16", True, 256, 5, True),
    ("tf32", True, 32, 2, True),
    ("bf16", False, 128, 5, False),
    ("tf32", False, 32, 5, False),
]


def steps(check: Check) -> None:
    """Whole training steps of a voice: mel frames a second and peak memory; the peer's too."""
    cases = STEPS[1:4:2] if check.quick else STEPS
    began = time.perf_counter()
    for i, (precision, fast, batch, reduction, graph) in enumerate(cases):
        if time.perf_counter() - began > check.seconds - 15:
            check.emit("rest", skipped=f"{len(cases) - i} cases: out of time")
            return
        if i == 3:
            peer(check)
        batch = 2 if check.quick else batch
        name = f"{precision}{' kernels' if fast else ''}{' graph' if graph else ''}"
        name += f" batch {batch} r={reduction}"
        set_tf32(precision == "tf32")
        measure(check, name, lambda: voice_step(check, precision, fast, batch, reduction, graph))  # noqa: B023


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
    for precision in ("bf16", "fp32"):

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
    for precision, fast, batch in (("bf16", True, 32), ("bf16", False, 32), ("bf16", True, 256)):
        batch, frames = (2, 40) if check.quick else (batch, 800)
        if check.quick and not fast:
            continue

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
    for batch in (2,) if check.quick else (32, 128):
        step, _ = voice_step(check, "bf16", True, batch, 2, False)
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
        check.emit(f"batch {batch}", busy_share=busy / wall, device_ms=busy / 2000)
        for key, microseconds, count in sorted(rows, key=lambda row: -row[1])[:25]:
            check.emit(key[:90], device_ms=microseconds / 2000, calls=count / 2)
