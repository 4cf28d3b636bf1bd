"""Magnitudes back to a wave: fast Griffin-Lim from an integrated phase.

Griffin and Lim (1984) alternate between "has these magnitudes" and "is the transform of a wave";
Perraudin, Balazs and Sondergaard (2013) extrapolate each step, c + momentum (c - previous c).
`phase.py` finds the start. A GPU is no faster at it than the compiled loops of a CPU, so all runs
on the CPU. B batch, T frames, F bins, N = (T - 1) * hop_length samples.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacoskip.audio.frames import Frames
from tacoskip.audio.phase import integrate_phase
from tacoskip.audio.settings import AudioSettings, GriffinLimSettings
from tacoskip.kernels.cpu import spectra

MOMENTUM = 0.95  # docs/explanation/audio.md compares it with others
# Sharpening leaves a sine of this amplitude as loud as it is. Clips of LJSpeech keep their level
# within 1 dB. A fixed amplitude, and not the clip's own, lets a stream sound as the whole does.
SHARPENING_LEVEL = 0.03


def griffin_lim(
    magnitude: Tensor,
    n_fft: int,
    hop_length: int,
    window_length: int,
    iterations: int = 10,
    momentum: float = MOMENTUM,
    seed: int = 0,
    lengths: Tensor | None = None,
) -> Tensor:
    """Find waves (B, N), on the CPU, whose magnitudes (centred, periodic Hann) come near (B, T, F).

    The first phase is integrated from the magnitudes; `seed` draws its quiet bins.
    `lengths` (B,) are the real frames: later frames do not count, later samples are zero.
    Raises ValueError when shapes or lengths do not fit, or a magnitude is negative or not finite.
    """
    frames = Frames(n_fft, hop_length, window_length)
    found = invert(magnitude, lengths, frames, GriffinLimSettings(iterations), seed, momentum)
    waves = found[0].new_zeros(len(found), (magnitude.shape[1] - 1) * hop_length)
    for row, wave in zip(waves, found, strict=True):
        row[: len(wave)] = wave
    return waves


def sharpen(linear: Tensor, audio: AudioSettings, power: float) -> Tensor:
    """Magnitudes of log10 magnitudes, raised to `power` around the `SHARPENING_LEVEL`."""
    level = math.log10(SHARPENING_LEVEL * audio.window_length / 4)
    # e^x costs a third of 10^x.
    log = linear.detach().float() * (power * math.log(10))
    return log.add_((level - level * power) * math.log(10)).exp_()


def check_magnitudes(magnitude: Tensor, n_bins: int) -> None:
    """Raise ValueError unless magnitudes are (B, T, n_bins), some, finite and not negative."""
    if magnitude.ndim != 3 or 0 in magnitude.shape or magnitude.shape[2] != n_bins:
        raise ValueError(
            f"expected magnitudes (B >= 1, T >= 1, {n_bins}), got {tuple(magnitude.shape)}"
        )
    least, most = magnitude.aminmax()
    if not 0 <= least <= most < math.inf:  # NaN is both, if there is one
        raise ValueError("expected finite magnitudes of at least 0, got negative, NaN or infinite")


def invert(
    magnitude: Tensor,
    lengths: Tensor | None,
    frames: Frames,
    settings: GriffinLimSettings,
    seed: int,
    momentum: float = MOMENTUM,
) -> list[Tensor]:
    """Waves ((length - 1) * hop_length,) of magnitudes (B, T, F), on the CPU."""
    check_magnitudes(magnitude, frames.n_bins)
    magnitude = magnitude.detach().float().cpu()
    n_items, n_frames, _ = magnitude.shape
    counts = [n_frames] * n_items if lengths is None else [int(n) for n in lengths]
    if len(counts) != n_items or min(counts) < 1 or max(counts) > n_frames:
        raise ValueError(f"expected {n_items} lengths within 1 to {n_frames}, got {counts}")
    waves = []
    for padded, count in zip(magnitude, counts, strict=True):
        item = padded[:count]
        phase = starting_phase(settings, tuple(item.shape), np.random.default_rng(seed))
        if settings.phase == "pghi":
            integrate_phase(item.numpy(), phase, *frames.shape)
        first = torch.from_numpy(phase)
        waves.append(from_phase(item, first, frames, settings.iterations, momentum))
    return waves


def from_phase(
    magnitude: Tensor, phase: Tensor, frames: Frames, iterations: int, momentum: float = MOMENTUM
) -> Tensor:
    """A wave of magnitudes (T, F) from a first phase (T, F), counted from the window's start."""
    scale = frames.envelope(len(magnitude)).clamp_min(1e-8).reciprocal()
    # A wave is silent before its first centre and after its last.
    start, end = frames.lead, frames.lead + (len(magnitude) - 1) * frames.hop_length
    scale[:start] = scale[end:] = 0
    fixed = torch.zeros_like(scale)
    return project(magnitude, phase, frames, scale, fixed, iterations, momentum)[start:end]


def project(
    magnitude: Tensor,
    phase: Tensor,
    frames: Frames,
    scale: Tensor,
    fixed: Tensor,
    iterations: int,
    momentum: float = MOMENTUM,
) -> Tensor:
    """Run Griffin-Lim on magnitudes (T, F) from a first `phase` (T, F).

    The buffer (L,), which is returned, is the sum of overlapped frames, and of `fixed` (L,) where
    earlier frames reach in, times `scale` (L,), one over the sum of squared windows; 0 where there
    must be silence.
    """
    # Only its direction counts, so c + m (c - p) may be written c - m / (1 + m) p.
    pull = momentum / (1 + momentum)
    if spectra.transforms(magnitude, frames.n_fft):
        shape = frames.window, frames.n_fft, frames.hop_length
        return spectra.project(magnitude, phase, *shape, scale, fixed, iterations, pull)
    buffer = torch.zeros_like(scale)
    blocks = frames.blocks(1, len(magnitude))
    for block in blocks:
        frames.overlap_add(buffer, torch.polar(magnitude[block], phase[block]), block)
    buffer.add_(fixed).mul_(scale)
    previous = torch.zeros_like(magnitude, dtype=torch.complex64)
    for _ in range(iterations):
        following = torch.zeros_like(buffer)
        for block in blocks:
            rebuilt = frames.transform(buffer, block)
            ahead = torch.sub(rebuilt, previous[block], alpha=pull)
            previous[block] = rebuilt
            power = ahead.real.square().addcmul_(ahead.imag, ahead.imag)
            ahead *= power.add_(1e-30).rsqrt_().mul_(magnitude[block])
            frames.overlap_add(following, ahead, block)
        buffer = following.add_(fixed).mul_(scale)
    return buffer


def starting_phase(
    settings: GriffinLimSettings, shape: tuple[int, ...], noise: np.random.Generator
) -> NDArray[np.float32]:
    """Phases (T, F) to start or integrate from. Noise is drawn frame by frame, whatever T is."""
    if settings.phase == "zero":
        return np.zeros(shape, np.float32)
    return noise.random(shape, np.float32) * np.float32(2 * np.pi)
