"""Families against their formulas, read plainly from the papers: one frame or stream at a time."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks import build_block
from tacoskip.blocks.topologies.momentum import Momentum

CHANNELS, DEPTH, BATCH, FRAMES = 8, 4, 2, 9
MASK = torch.ones(BATCH, FRAMES, dtype=torch.bool)
Stack = Any  # its parameters are read by their names
Reading = Callable[[Stack, Tensor], Tensor]


def transforms(stack: Stack) -> list[Callable[[Tensor], Tensor]]:
    """F and what follows it, of each unit: x (B, T, C) -> (B, T, C)."""
    return [lambda x, t=unit.transform: t.after(t(x, MASK)) for unit in stack.units]


def wavenet(stack: Stack, x: Tensor) -> Tensor:
    total = torch.zeros_like(x)
    for f, skip in zip(transforms(stack), stack.to_skip, strict=True):
        h = f(x)
        total = total + h @ skip.weight.T + skip.bias
        x = x + h
    return total.clamp(min=0) @ stack.out.weight.T + stack.out.bias


def denseformer(stack: Stack, x: Tensor) -> Tensor:
    outputs, read = [x], x
    for f, weights in zip(transforms(stack), stack.weights, strict=True):
        outputs.append(read + f(read))
        read = sum((w * v for w, v in zip(weights, outputs, strict=True)), torch.zeros_like(x))
    return read


def attention_residual(stack: Stack, x: Tensor) -> Tensor:
    outputs, read = [x], x
    for f, query in zip(transforms(stack), stack.queries, strict=True):
        outputs.append(f(read))
        read = torch.empty_like(x)
        for b in range(BATCH):
            for t in range(FRAMES):
                values = [v[b, t] for v in outputs]
                scores = [query @ v / (v.square().mean() + 1e-6).sqrt() for v in values]
                exps = [math.exp(score) for score in scores]
                read[b, t] = sum(e / sum(exps) * v for e, v in zip(exps, values, strict=True))
    return read


def streams(stack: Stack, x: Tensor, weights: Callable[[int], tuple[Tensor, ...]]) -> Tensor:
    count = stack.streams
    h = [x] * count
    for layer, f in enumerate(transforms(stack)):
        a, b, carry = weights(layer)
        y = f(sum(a[i] * h[i] for i in range(count)))
        kept = [sum(carry[i, j] * h[j] for j in range(count)) for i in range(count)]
        h = [kept[i] + b[i] * y for i in range(count)]
    return sum(h) / count


def hyper(stack: Stack, x: Tensor) -> Tensor:
    return streams(stack, x, lambda i: (stack.read[i], stack.write[i], stack.carry[i]))


def mhc(stack: Stack, x: Tensor) -> Tensor:
    def weights(i: int) -> tuple[Tensor, ...]:
        carry = stack.carry[i].exp()
        carry = carry / carry.sum(1, keepdim=True)
        for _ in range(20):
            carry = carry / carry.sum(0, keepdim=True)
            carry = carry / carry.sum(1, keepdim=True)
        return 1 / (1 + (-stack.read[i]).exp()), 2 / (1 + (-stack.write[i]).exp()), carry

    return streams(stack, x, weights)


def fractal(stack: Stack, x: Tensor) -> Tensor:
    """Four units: a fractal of two columns, f(g(x)) beside h(x), then one unit."""
    f, g, h, last = transforms(stack)
    return last((g(f(x)) + h(x)) / 2)


def fractal_of_three(stack: Stack, x: Tensor) -> Tensor:
    """Seven units; the last join has three inputs, see figure 1 of the paper."""
    f = transforms(stack)
    half = (f[1](f[0](x)) + f[2](x)) / 2
    return (f[4](f[3](half)) + f[5](half) + f[6](x)) / 3


def momentum(stack: Stack, x: Tensor) -> Tensor:
    v = torch.zeros_like(x)
    for f in transforms(stack):
        v = 0.9 * v + 0.1 * f(x)
        x = x + v
    return x


def by_unit(join: Callable[[Stack, Tensor, Tensor], Tensor]) -> Reading:
    def reading(stack: Stack, x: Tensor) -> Tensor:
        for unit, f in zip(stack.units, transforms(stack), strict=True):
            x = join(unit.skip, x, f(x))
        return x

    return reading


def bypass(skip: Stack, x: Tensor, h: Tensor) -> Tensor:
    c = torch.tensor([min(max(float(one), 0.2), 1.0) for one in skip.scale], dtype=x.dtype)
    return (1 - c) * x + c * h


def laurel(skip: Stack, x: Tensor, h: Tensor) -> Tensor:
    a, b = (2 * w.exp() / skip.weights.exp().sum() for w in skip.weights)
    return a * h + b * (x + x @ (skip.up.weight @ skip.down.weight).T)


def deepnorm(skip: Stack, x: Tensor, h: Tensor) -> Tensor:
    y = DEPTH**0.25 * x + skip.scale * h
    y = (y - y.mean(2, keepdim=True)) / (y.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return y * skip.norm.weight + skip.norm.bias


def weighted(skip: Stack, x: Tensor, h: Tensor) -> Tensor:
    return x + skip.alpha * h


def convolved(conv: nn.Conv1d, x: Tensor, dilation: int) -> Tensor:
    return functional.conv1d(
        x.transpose(1, 2), conv.weight, conv.bias, padding=dilation, dilation=dilation
    ).transpose(1, 2)


def gated_dilated(stack: Stack, x: Tensor) -> Tensor:
    for layer, unit in enumerate(stack.units):
        h = convolved(unit.transform.conv, x, 2**layer)
        out = unit.transform.out
        h = torch.tanh(h[:, :, :CHANNELS]) / (1 + torch.exp(-h[:, :, CHANNELS:]))
        x = x + h @ out.weight.T + out.bias
    return x


def res2net(stack: Stack, x: Tensor) -> Tensor:
    def layer(one: Stack, x: Tensor, dilation: int = 0) -> Tensor:
        h = convolved(one.conv, x, dilation) if dilation else x @ one.conv.weight[:, :, 0].T
        h = h if dilation else h + one.conv.bias
        mean, scale = one.norm.running_mean, (one.norm.running_var + 1e-5).sqrt()
        return (h.clamp(min=0) - mean) / scale * one.norm.weight + one.norm.bias

    for number, unit in enumerate(stack.units):
        f = unit.transform
        u = layer(f.first, x).split(CHANNELS // 8, 2)
        h = [u[0], layer(f.inner[0], u[1], 2 + number % 3)]
        for i in range(2, 8):
            h.append(layer(f.inner[i - 1], u[i] + h[-1], 2 + number % 3))
        y = layer(f.last, torch.cat(h, 2))
        squeezed = (y.mean(1) @ f.squeeze.weight.T + f.squeeze.bias).clamp(min=0)
        gate = 1 / (1 + torch.exp(-(squeezed @ f.excite.weight.T + f.excite.bias)))
        x = x + gate[:, None] * y
    return x


READINGS: dict[str, Reading] = {
    "wavenet": wavenet,
    "denseformer": denseformer,
    "attention_residual": attention_residual,
    "hyper": hyper,
    "mhc": mhc,
    "fractal": fractal,
    "momentum": momentum,
    "bypass": by_unit(bypass),
    "laurel": by_unit(laurel),
    "deepnorm": by_unit(deepnorm),
    "layerscale": by_unit(weighted),
    "gated_dilated": gated_dilated,
    "res2net": res2net,
}


def randomized(block: str, depth: int = DEPTH, **options: object) -> Stack:
    """A stack in float64 and evaluation mode, every parameter and statistic off its start."""
    torch.manual_seed(0)
    stack = build_block(block, CHANNELS, depth, **options).double().eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for tensor in (*stack.parameters(), *stack.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.5 * torch.rand_like(tensor))
    return stack


@pytest.mark.parametrize("block", READINGS)
def test_family_equals_its_formula(block: str) -> None:
    stack = randomized(block)
    x = torch.randn(BATCH, FRAMES, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        expected, output = READINGS[block](stack, x), stack(x, MASK)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    assert output.std() > 0.1


def test_last_join_of_a_fractal_has_one_input_a_column() -> None:
    stack = randomized("fractal", 7)
    x = torch.randn(BATCH, FRAMES, CHANNELS, dtype=torch.float64)
    torch.testing.assert_close(stack(x, MASK), fractal_of_three(stack, x))


def test_mhc_carries_by_doubly_stochastic_weights() -> None:
    _, _, carry = randomized("mhc").weights()
    ones = torch.ones_like(carry[:, 0])
    torch.testing.assert_close(carry.sum(1), ones, rtol=0, atol=1e-2)
    torch.testing.assert_close(carry.sum(2), ones)


@pytest.mark.parametrize("skip", ["rezero", "skipinit"])
def test_named_weights_are_learned_on_the_transform_from_zero(skip: str) -> None:
    torch.manual_seed(0)
    named = build_block("preact", CHANNELS, 2, skip=skip)
    torch.manual_seed(0)
    plain = build_block("preact", CHANNELS, 2, "learned", skip_on="transform", skip_start=0.0)
    torch.testing.assert_close(named.state_dict(), plain.state_dict())
    x = torch.randn(BATCH, FRAMES, CHANNELS)
    assert torch.equal(named(x, MASK), x)


def test_momentum_is_inverted() -> None:
    stack = randomized("momentum", 6)
    assert isinstance(stack, Momentum)
    x = torch.randn(BATCH, FRAMES, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        back, velocity = stack.invert(*stack.run(x, MASK), MASK)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(velocity, torch.zeros_like(x), rtol=0, atol=1e-7)


def test_drop_path_keeps_one_column_or_at_least_one_input() -> None:
    torch.manual_seed(0)
    stack: Stack = build_block("fractal", CHANNELS, 7, drop=0.6).train()
    batch, paths = 400, [torch.full((400, 1, 1), float(2**i)) for i in range(3)]
    only = torch.arange(batch) % 3
    joined = stack.join(paths, only)[:, 0, 0]
    is_global = torch.arange(batch) % 2 == 0
    assert torch.equal(joined[is_global], 2.0 ** only[is_global])
    means = {1.0, 2.0, 4.0, 1.5, 2.5, 3.0, 7 / 3}  # of every choice but none
    got = {round(float(one), 4) for one in joined[~is_global]}
    assert got == {round(one, 4) for one in means}


def test_deepnorm_depends_on_the_number_of_units() -> None:
    skip: Any = build_block("deepnorm", CHANNELS, 16).units[3].skip
    assert skip.scale.item() == pytest.approx(64**-0.25)
