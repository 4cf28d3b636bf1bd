"""The Triton kernels against float64, in Triton's interpreter where there is no GPU."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.kernels.norm import MaskedNorm
from tacoskip.kernels.triton.attention import attention_loop
from tacoskip.kernels.triton.gru import gru
from tacoskip.kernels.triton.norm import PASSES

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def error(result: Tensor, expected: Tensor) -> float:
    """Relative error of a result."""
    difference = result.detach().double() - expected.detach()
    return float(difference.norm() / expected.detach().norm().clamp(min=1e-30))


def expected_gru(x: Tensor, lengths: Tensor, layers: list[nn.GRU]) -> Tensor:
    """States (B, T, D, H) of one layer a direction, zero beyond the lengths."""
    outputs = []
    for i, layer in enumerate(layers):
        rows = []
        for item, length in zip(x, lengths.tolist(), strict=True):
            real = item[None, :length]
            states = layer(real.flip(1))[0].flip(1) if i else layer(real)[0]
            rows.append(functional.pad(states[0], (0, 0, 0, x.shape[1] - length)))
        outputs.append(torch.stack(rows))
    return torch.stack(outputs, 2)


def expected_attention(
    inputs: Tensor,
    mixed: Tensor,
    keys: Tensor,
    parameters: list[Tensor],
    lengths: Tensor,
    width: int,
    recursion: bool,
) -> tuple[Tensor, Tensor]:
    """States (B, L, H) and weights (B, L, S), step by step."""
    weight, bias, query, query_bias, energy, filters = parameters
    batch, symbols, _ = keys.shape
    mask = torch.arange(symbols, device=keys.device) < lengths[:, None]
    h, context = inputs.new_zeros(batch, weight.shape[1]), torch.zeros_like(inputs[:, 0])
    last = functional.one_hot(torch.zeros_like(lengths), symbols).to(inputs.dtype)
    total = torch.zeros_like(last)
    hidden, weights = [], []
    for x in inputs.unbind(1):
        n_x, r_x, z_x = (x + context).chunk(3, 1)
        r_h, z_h, n_h = (h @ weight.t()).chunk(3, 1)
        r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        h = torch.lerp(torch.tanh(n_x + r * (n_h + bias)), h, z)
        u = keys + (h @ query.t() + query_bias)[:, None]
        if width:
            kernels = filters.unflatten(1, (2, -1))[:, :, :width]
            seen = functional.conv1d(torch.stack([last, total], 1), kernels, padding=width // 2)
            u = u + seen.transpose(1, 2)
        logits, allowed = (torch.tanh(u) * energy).sum(2), mask
        if recursion:
            reach = last + functional.pad(last, (1, 0))[:, :-1]
            logits, allowed = logits + reach.clamp(min=1e-12).log(), mask & (reach > 0)
        last = torch.softmax(logits.masked_fill(~allowed, -math.inf), 1)
        total = total + last
        context = torch.bmm(last[:, None], mixed)[:, 0]
        hidden.append(h)
        weights.append(last)
    return torch.stack(hidden, 1), torch.stack(weights, 1)


def expected_norm(
    x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, rectify: bool, pool: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, mean and variance over the real frames."""
    real = x[mask]
    mean, variance = real.mean(0), real.var(0, unbiased=False)
    y = (x - mean) * torch.rsqrt(variance + 1e-5) * weight + bias
    y = torch.relu(y) if rectify or pool else y
    y = y * mask[:, :, None]
    if pool:
        # The first of two equal frames gets the gradient, as in the bank; bfloat16 has many.
        ahead = functional.pad(y, (0, 0, 0, 1)).transpose(1, 2)  # (B, T, C) -> (B, C, T)
        y = functional.max_pool1d(ahead, 2, stride=1).transpose(1, 2)
    return y, mean, variance


def random_lengths(batch: int, longest: int) -> Tensor:
    lengths = torch.randint(1, longest + 1, (batch,), device=DEVICE)
    lengths[0] = longest
    return lengths


@pytest.mark.parametrize(
    ("dtype", "directions", "channels", "batch"),
    [
        (torch.float32, 2, 24, 18),  # two blocks of rows, weights in registers
        (torch.float32, 1, 70, 2),  # weights streamed
        (torch.bfloat16, 2, 20, 3),
        (torch.bfloat16, 2, 130, 2),
    ],
)
def test_gru_matches_float64(
    dtype: torch.dtype, directions: int, channels: int, batch: int
) -> None:
    torch.manual_seed(0)
    lengths = random_lengths(batch, 6)
    layers = [nn.GRU(5, channels, batch_first=True) for _ in range(directions)]
    doubles = [nn.GRU(5, channels, batch_first=True).double().to(DEVICE) for _ in layers]
    for layer, double in zip(layers, doubles, strict=True):
        double.load_state_dict(layer.to(DEVICE).state_dict())
    x = torch.randn(batch, 6, 5, device=DEVICE).to(dtype).requires_grad_()
    x64 = x.detach().double().requires_grad_()
    expected = expected_gru(x64, lengths, doubles)
    gates, weights, biases = [], [], []
    for layer in layers:
        w_x, w_h, b_x, b_h = layer.parameters()
        bias = b_x + functional.pad(b_h[: 2 * channels], (0, channels))
        gates.append(
            functional.linear(x, w_x.roll(channels, 0).to(dtype), bias.roll(channels).to(dtype))
        )
        weights.append(w_h)
        biases.append(b_h[2 * channels :])
    states, _ = gru(
        torch.stack(gates, 2), torch.stack(weights).to(dtype), torch.stack(biases), lengths
    )
    gradient = torch.randn_like(states)
    states.backward(gradient)
    expected.backward(gradient.double())
    assert error(states, expected) < LIMITS[dtype]
    assert error(x.grad, x64.grad) < LIMITS[dtype]
    for layer, double in zip(layers, doubles, strict=True):
        for a, b in zip(layer.parameters(), double.parameters(), strict=True):
            assert error(a.grad, b.grad) < LIMITS[dtype]


@pytest.mark.parametrize(
    ("dtype", "symbols", "width", "recursion"),
    [
        (torch.float32, 7, 0, False),
        (torch.float32, 20, 5, False),  # symbols in two blocks
        (torch.float32, 20, 5, True),
        (torch.bfloat16, 7, 5, True),
    ],
)
def test_attention_loop_matches_float64(
    dtype: torch.dtype, symbols: int, width: int, recursion: bool
) -> None:
    torch.manual_seed(0)
    batch, steps, hidden, channels = 3, 5, 20, 12
    filters = torch.zeros(channels, 2, 16 if width else 0)
    filters[:, :, :width] = 0.3 * torch.randn(channels, 2, width)
    shapes = [
        (batch, steps, 3 * hidden),
        (batch, symbols, 3 * hidden),
        (batch, symbols, channels),
        (3 * hidden, hidden),
        (hidden,),
        (channels, hidden),
        (channels,),
        (channels,),
    ]
    tensors = [torch.randn(shape) / shape[-1] ** 0.5 for shape in shapes] + [filters.flatten(1)]
    low = [x.to(DEVICE, dtype).requires_grad_() for x in tensors]
    high = [x.detach().double().requires_grad_() for x in low]
    lengths = random_lengths(batch, symbols)
    expected = expected_attention(*high[:3], high[3:], lengths, width, recursion)
    result = attention_loop(*low[:3], low[3:], lengths, width, recursion)[:2]
    gradients = [torch.randn_like(x) for x in result]
    torch.autograd.backward(result, gradients)
    torch.autograd.backward(expected, [x.double() for x in gradients])
    for a, b in zip(result, expected, strict=True):
        assert error(a, b) < LIMITS[dtype]
    for a, b in zip(low, high, strict=True):
        if a.numel():
            assert error(a.grad, b.grad) < LIMITS[dtype]


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize(("rectify", "pool"), [(False, False), (True, False), (True, True)])
def test_norm_matches_float64(dtype: torch.dtype, rectify: bool, pool: bool) -> None:
    torch.manual_seed(0)
    lengths = random_lengths(3, 50)
    mask = torch.arange(50, device=DEVICE) < lengths[:, None]
    x = (2 * torch.randn(3, 50, 70) + 3).to(DEVICE, dtype).requires_grad_()
    weight, bias = (torch.randn(70, device=DEVICE, requires_grad=True) for _ in range(2))
    high = [each.detach().double().requires_grad_() for each in (x, weight, bias)]
    expected = expected_norm(high[0], mask, *high[1:], rectify, pool)
    y, mean, variance, count = MaskedNorm.apply(
        PASSES, mask, weight, bias, 1e-5, (rectify, pool), None, x
    )
    gradient = torch.randn_like(y)
    y.backward(gradient)
    expected[0].backward(gradient.double())
    assert int(count) == int(mask.sum())
    for a, b in zip((y, mean, variance), expected, strict=True):
        assert error(a, b) < LIMITS[dtype] / 2
    for a, b in zip((x, weight, bias), high, strict=True):
        assert error(a.grad, b.grad) < LIMITS[dtype] / 2


def test_norm_adds_sums_of_processes() -> None:
    """Two halves whose sums are added give the statistics of the whole."""
    torch.manual_seed(0)
    x, mask = (
        torch.randn(4, 9, 20, device=DEVICE),
        torch.ones(4, 9, dtype=torch.bool, device=DEVICE),
    )
    weight, bias = torch.rand(20, device=DEVICE), torch.rand(20, device=DEVICE)
    kept: list[Tensor] = []

    def keep(sums: Tensor) -> Tensor:
        kept.append(sums)
        return sums

    options = weight, bias, 1e-5, (False, False)
    whole = MaskedNorm.apply(PASSES, mask, *options, None, x)
    for half in (slice(2), slice(2, 4)):
        MaskedNorm.apply(PASSES, mask[half], *options, keep, x[half])
    total = kept[0] + kept[1]
    first = MaskedNorm.apply(PASSES, mask[:2], *options, lambda sums: total, x[:2])
    assert torch.allclose(first[0], whole[0][:2], atol=1e-6)
    assert torch.allclose(first[2], whole[2])


COMPILE = Path(__file__).parent / "compile_kernels.py"


@pytest.mark.slow
def test_kernels_compile_for_hopper() -> None:
    """Triton's compiler and ptxas need no GPU; the interpreter accepts what they refuse."""
    done = subprocess.run([sys.executable, COMPILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
