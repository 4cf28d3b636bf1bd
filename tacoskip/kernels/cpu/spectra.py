"""Transforms of whole recordings by compiled kernels: features, and Griffin-Lim.

B batch, T frames, F bins, M mel bands, N samples, W samples in a window, L samples in a buffer of
frames (`audio/frames.py`).
"""

import ctypes
import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tacoskip.kernels.cpu import is_supported as is_supported
from tacoskip.kernels.cpu import library, pointer, run, threads

# The shortest transform, and below it torch's: a vector of frames is not worth its while there.
SHORTEST = 64

_NUMBER, _PLACE = ctypes.c_int64, ctypes.c_void_p


class _Projection(ctypes.Structure):
    _fields_ = (
        *((name, _NUMBER) for name in "n hop window frames length iterations".split()),
        *((name, _PLACE) for name in "magnitude cosine sine analysis synthesis".split()),
        *((name, _PLACE) for name in "scale turns pair_turns pairs buffer".split()),
        ("pull", ctypes.c_float),
        *((name, _NUMBER) for name in "step segment".split()),
        *((name, _PLACE) for name in "target previous even odd".split()),
    )


class _Features(ctypes.Structure):
    _fields_ = (
        *((name, _NUMBER) for name in "n hop window rows frames samples bands".split()),
        *((name, _PLACE) for name in "waves analysis turns pair_turns pairs".split()),
        *((name, _PLACE) for name in "corners weights linear mel".split()),
        ("floor", ctypes.c_float),
    )


class Bands(NamedTuple):
    """Mel bands as bins meet them: between corner i and i + 1 lie the bins from `corners[i]`
    (M + 2, int32), which fade out of band i - 1 and into band i, with `weights` (F, 2).
    """

    corners: Tensor
    weights: Tensor


def transforms(x: Tensor, n_fft: int) -> bool:
    """Whether the kernels are there for such a tensor, and for transforms of n_fft samples."""
    return n_fft >= SHORTEST and n_fft & (n_fft - 1) == 0 and is_supported(x)


def bands(basis: Tensor) -> Bands:
    """Of mel filters (F, M), of which a bin is in two neighbours at most."""
    bins, count = basis.shape
    first = torch.where(basis.any(1), (basis > 0).int().argmax(1), 0).cummax(0).values
    beside = functional.pad(basis, (0, 1))
    weights = beside.gather(1, torch.stack([first, first + 1], 1))
    corners = torch.searchsorted(first + 1, torch.arange(count + 1))
    corners = torch.cat([corners, torch.tensor([bins])])
    return Bands(corners.int(), weights.float().contiguous())


def features(
    waves: Tensor,
    window: Tensor,
    n_fft: int,
    hop_length: int,
    preemphasis: float,
    mel: Bands,
    floor: float,
) -> tuple[Tensor, Tensor]:
    """Log10 magnitudes (B, T, F) and mel (B, T, M) of waves (B, N), computed in double precision,
    at least log10 of the floor. window (W,) of float64.
    """
    batch, samples = waves.shape
    frames, length, table = 1 + samples // hop_length, len(window), _plan(n_fft)
    analysis, lead = _padded(window / 2), (length + 1) // 2
    whole = frames + -frames % int(_library().lanes())
    emphasised = window.new_zeros(batch, lead + whole * hop_length + len(analysis))
    wave = emphasised[:, lead : lead + samples].copy_(waves)
    wave[:, 1:].sub_(waves[:, :-1], alpha=preemphasis)
    linear = waves.new_empty(batch, frames, n_fft // 2 + 1)
    logs = waves.new_empty(batch, frames, len(mel.corners) - 2)
    tensors = emphasised, analysis, table.turns, table.pair_turns, table.pairs
    given = _Features(
        *(n_fft, hop_length, length, batch, frames, emphasised.shape[1], logs.shape[2]),
        *(pointer(x) for x in (*tensors, mel.corners, mel.weights, linear, logs)),
        floor,
    )
    run("analyse", ctypes.byref(given), threads())
    return linear, logs


def project(
    magnitude: Tensor,
    phase: Tensor,
    window: Tensor,
    n_fft: int,
    hop_length: int,
    scale: Tensor,
    iterations: int,
    pull: float,
) -> Tensor:
    """Griffin-Lim on one item, as `audio/inversion.py` has it: magnitude, phase (T, F),
    scale (L,) -> buffer (L,).
    """
    table, buffer = _plan(n_fft), torch.empty_like(scale)
    tensors = (
        *(magnitude.contiguous(), phase.cos().contiguous(), phase.sin().contiguous()),
        *(_padded(window / 2), _padded(window / n_fft)),
        *(scale.contiguous(), table.turns.float(), table.pair_turns.float()),
        *(table.pairs, buffer),
    )
    given = _Projection(
        *(n_fft, hop_length, len(window), len(magnitude), len(scale), iterations),
        *(pointer(x) for x in tensors),
        pull,
    )
    run("project", ctypes.byref(given), threads())
    return buffer


def integrate(
    height: Tensor,
    phase: Tensor,
    slopes: tuple[float, float, float, float],
    advance: Tensor,
    steps: float,
    levels: int,
) -> None:
    """Phase gradient heap integration, as `audio/phase.py` has it.

    Args:
        height: log magnitudes (T + 2, F + 2), extended beyond the edges.
        phase: (T, F).
        slopes: log threshold, of time, of frequency, of the window's centre.
        advance: (F,).
        steps: levels a neper.
        levels: the most of them.
    """
    run(
        "integrate",
        *(_NUMBER(size) for size in phase.shape),
        *(pointer(height), pointer(phase), (ctypes.c_float * 4)(*slopes), pointer(advance)),
        *(ctypes.c_float(steps), _NUMBER(levels)),
    )


class _Plan(NamedTuple):
    """What all transforms of n samples share.

    turns: (cos, sin) of the passes' factors. pairs: bins k and M - k, M = n / 2, in the order in
    which they are met: where both are, and k (M / 2 - 1, 3); at last where bin M / 2 is.
    pair_turns: (cos, sin) of e^(-2 pi i k / n) of each pair.
    """

    turns: Tensor
    pairs: Tensor
    pair_turns: Tensor


@cache
def _plan(n_fft: int) -> _Plan:
    length = part = n_fft // 2
    turns = list[Tensor]()
    while part > 4:
        turns.append(_turns(torch.outer(torch.arange(part // 4), torch.arange(1, 4)), part))
        part //= 4
    bins, index = _order(length), torch.arange(length)
    positions = bins.argsort()
    other = positions[(length - bins) % length]
    pairs = torch.stack([index, other, bins], 1)[(index > 0) & (other > index)]
    met = torch.cat([pairs.flatten(), positions[length // 2, None]]).int()
    return _Plan(torch.cat(turns), met, _turns(pairs[:, 2], n_fft))


def _order(length: int) -> Tensor:
    """Bins in the order that the transform leaves them in."""
    if length == 1:
        return torch.zeros(1, dtype=torch.long)
    parts = min(length, 4)
    inner = parts * _order(length // parts)
    return torch.cat([first + inner for first in range(parts)])


def _turns(steps: Tensor, whole: int) -> Tensor:
    """(cos, sin) of so many steps of a turn, clockwise, in double precision."""
    angle = steps.double() * (-2 * math.pi / whole)
    return torch.stack([angle.cos(), angle.sin()], -1).flatten()


def _padded(window: Tensor) -> Tensor:
    """Zeros behind a window, to a whole number of vectors."""
    return functional.pad(window, (0, -len(window) % int(_library().lanes())))


def _library() -> ctypes.CDLL:
    kernels = library()
    assert kernels is not None, "ask transforms first"
    return kernels
