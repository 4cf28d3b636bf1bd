"""A training step on a GPU, with kernels, against the same step on the CPU."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tacoskip.audio import AudioSettings, FrontEnd
from tacoskip.config import load_config
from tacoskip.data.loading import Batch
from tacoskip.kernels.accelerate import accelerate, describe
from tacoskip.models.attention_loop import AttentionLoop
from tacoskip.run_folder import build_tacotron
from tacoskip.training.cuda_graph import GraphedGradients
from tacoskip.training.device import set_tf32
from tacoskip.training.features import DeviceFeatures
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


def random_batch(n_mels: int, n_bins: int) -> Batch:
    """Features of three texts, each symbol two frames long."""
    torch.manual_seed(1)
    text, symbols = torch.randint(1, 30, (3, 20)), torch.tensor([20, 12, 17])
    mask = torch.arange(20) < symbols[:, None]
    mel, linear = torch.randn(3, 40, n_mels), torch.randn(3, 40, n_bins)
    ids, durations = ["a", "b", "c"], 2 * mask
    return Batch(text, symbols, mel, linear, 2 * symbols, 0 * symbols, ids, ids, durations)


def test_replayed_graph_gives_the_gradients_of_an_eager_pass() -> None:
    torch.manual_seed(0)
    config = load_config("base/tts", SETTINGS)
    model: Any = build_tacotron(config, 30, 1).to("cuda").train()
    for dropout in (each for each in model.modules() if isinstance(each, torch.nn.Dropout)):
        dropout.p = 0.0
    accelerate(model, torch.device("cuda"), torch.bfloat16)

    def compute(batch: Batch) -> tuple[dict[str, Tensor], None]:
        inputs = batch.symbols, batch.symbol_lengths, batch.mel, batch.mel_lengths, batch.speakers
        with torch.autocast("cuda", torch.bfloat16):
            out = model(*inputs, batch.durations)
            loss = masked_l1(out.mel, batch.mel, batch.mel_lengths)
            loss = loss + masked_l1(out.linear, batch.linear, batch.mel_lengths)
        loss.backward()
        return {"loss": loss.detach()}, None

    messages = list[str]()
    graphs = GraphedGradients(model, lambda text, **_: messages.append(text))
    batch = random_batch(config.audio.n_mels, config.audio.n_bins).to("cuda")
    found = []
    for _ in range(3):  # eager, captured, replayed
        model.zero_grad()
        losses, _ = graphs(batch, compute, whole=True)
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        found.append((float(losses["loss"]), torch.cat(gradients).clone()))
    assert len(graphs.graphs) == 1 and not messages
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-3)
        assert float((gradient - found[0][1]).norm()) < 1e-2 * float(found[0][1].norm())


def test_features_on_the_gpu_match_the_front_end() -> None:
    torch.manual_seed(0)
    set_tf32(True)  # which may not reach them
    front_end = FrontEnd(AudioSettings(sample_rate=16000))
    waves = [(3000 * torch.randn(count)).to(torch.int16) for count in (16000, 9001, 12345)]
    samples = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    expected = [front_end.features(wave / 32768) for wave in waves]
    frames = torch.tensor([len(mel) for _, mel in expected])
    none, counts = torch.empty(3, int(frames.max()), 0), torch.tensor([len(x) for x in waves])
    shape = {"samples": samples, "sample_lengths": counts}
    batch = Batch(counts[:, None], counts, none, none, frames, counts, [], [], **shape)
    found = DeviceFeatures(front_end, "cuda", linear=True)(batch.to("cuda"))
    for row, (linear, mel) in enumerate(expected):
        torch.testing.assert_close(found.mel[row, : len(mel)].cpu(), mel, atol=2e-5, rtol=0)
        torch.testing.assert_close(found.linear[row, : len(mel)].cpu(), linear, atol=2e-5, rtol=0)
        assert not found.mel[row, len(mel) :].any()
