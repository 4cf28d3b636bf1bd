"""A training step on a GPU, with kernels, against the same step on the CPU."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tacoskip.config import load_config
from tacoskip.kernels.accelerate import accelerate, describe
from tacoskip.models.attention_loop import AttentionLoop
from tacoskip.run_folder import build_tacotron
from tacoskip.training.device import set_tf32
from tacoskip.training.losses import masked_l1

pytestmark = pytest.mark.gpu
SETTINGS = ["data.corpus=folder", "tts.prenet_dropout=0", "tts.frame_dropout=0"]


def step(model: Any, device: str, dtype: torch.dtype) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of one random batch."""
    torch.manual_seed(1)
    symbols, mel = torch.randint(1, 30, (3, 20)), torch.randn(3, 40, len(model.mel_mean))
    lengths, frames = torch.tensor([20, 12, 17]), torch.tensor([40, 25, 36])
    durations = torch.full_like(symbols, 2)
    symbols, mel, lengths, frames, durations = (
        x.to(device) for x in (symbols, mel, lengths, frames, durations)
    )
    with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = model(symbols, lengths, mel, frames, torch.zeros_like(lengths), durations)
        loss = masked_l1(out.mel, mel, frames) + out.linear.float().square().mean()
    loss.backward()
    return loss, {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", ["durations", "bahdanau", "location", "forward", "gmm"])
def test_gpu_step_matches_cpu_step(attention: str) -> None:
    torch.manual_seed(0)
    set_tf32(False)
    config = load_config("base/tts", [*SETTINGS, f"tts.attention={attention}"])
    model = build_tacotron(config, 30, 1).train()
    loss, expected = step(copy.deepcopy(model), "cpu", torch.float32)
    fast = accelerate(model.to("cuda"), torch.device("cuda"), torch.float32)
    assert describe(fast)
    found, gradients = step(fast, "cuda", torch.float32)
    total = sum(float(x.norm()) ** 2 for x in expected.values()) ** 0.5
    off = sum(float((gradients[n] - x).norm()) ** 2 for n, x in expected.items()) ** 0.5
    assert float(found) == pytest.approx(float(loss), rel=1e-4)
    assert off < 1e-3 * total


def test_bf16_gradients_are_finite_and_repeat() -> None:
    torch.manual_seed(0)
    model = build_tacotron(load_config("base/tts", SETTINGS), 30, 1).train().to("cuda")
    accelerate(model, torch.device("cuda"), torch.bfloat16)
    _, first = step(copy.deepcopy(model), "cuda", torch.bfloat16)
    _, second = step(copy.deepcopy(model), "cuda", torch.bfloat16)
    assert all(bool(x.isfinite().all()) for x in first.values())
    assert all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("batch", [33, 150, 515])
def test_loop_matches_plain_loop_for_many_rows(batch: int) -> None:
    """One row a program, several rows a program, and a last program that is not full."""
    torch.manual_seed(0)
    plain = AttentionLoop(128, 256, 256, "forward", 128).cuda().train()
    fast = accelerate(copy.deepcopy(plain), torch.device("cuda"), torch.bfloat16)
    inputs, memory = torch.randn(batch, 40, 128).cuda(), torch.randn(batch, 90, 256).cuda()
    mask = torch.arange(90).cuda() < torch.randint(20, 91, (batch, 1)).cuda()
    outputs = []
    for loop, enabled in ((plain, False), (fast, True)):
        with torch.autocast("cuda", torch.bfloat16, enabled=enabled):
            hidden, context, weights = loop(inputs, memory, mask)
        (hidden.float().square().mean() + weights.square().sum(2).mean()).backward()
        outputs.append([hidden, context, weights, *(p.grad for p in loop.parameters())])
    for found, expected in zip(*outputs[::-1], strict=True):
        assert float((found - expected).norm()) < 0.05 * float(expected.norm()) + 1e-4
