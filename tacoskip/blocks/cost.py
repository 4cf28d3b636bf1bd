"""What a network costs: parameters, multiply-adds, frames seen, time."""

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tacoskip.blocks.part import Part


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@torch.no_grad()
def macs(module: nn.Module, *inputs: Tensor) -> float:
    """Return the multiply-adds of matrix products and convolutions of one call in evaluation."""
    module.eval()
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return float(counter.get_total_flops()) / 2


def macs_per_frame(block: nn.Module, channels: int, frames: int = 100) -> float:
    """Return `macs` a frame, for one item of `frames` frames.

    A block that sees all frames (nonlocal) costs more for a longer item.
    """
    return macs(block, *_example(channels, frames)) / frames


@torch.no_grad()
def receptive_field(block: nn.Module, channels: int, frames: int = 1024) -> int | None:
    """Return how many frames of the input one frame of the output depends on; None: all of them.

    Measured: the frames that become NaN when one in the middle is.
    """
    if any(part.sees_all for part in block.modules() if isinstance(part, Part)):
        return None
    x, mask = _example(channels, frames)
    x[0, frames // 2] = torch.nan
    touched = block.eval()(x, mask)[0].isnan().any(1).nonzero()[:, 0]
    seen = int(touched.max() - touched.min()) + 1 if len(touched) else 0
    return None if seen == frames else seen


@torch.no_grad()
def latency_ms(block: nn.Module, channels: int, frames: int = 200, repeats: int = 3) -> float:
    """Return the milliseconds of one item in evaluation, see `best_ms`."""
    x, mask = _example(channels, frames)
    block.eval()
    return best_ms(lambda: block(x, mask), repeats)


@torch.no_grad()
def initial_correlation(block: nn.Module, channels: int, frames: int = 200) -> float:
    """Return the correlation of input and output in training mode, for one item of noise.

    Of a new stack it says how near the identity it starts: 1 for the identity.
    """
    x, mask = _example(channels, frames)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        y = copy.deepcopy(block).train()(x, mask)  # a copy: running statistics move
    return float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1])


def best_ms(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the milliseconds of a call: the best of `repeats`, after one that is not timed."""
    work()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return 1000 * best


def _example(channels: int, frames: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(1, frames, channels, generator=torch.Generator().manual_seed(0))
    return x, torch.ones(1, frames, dtype=torch.bool)
