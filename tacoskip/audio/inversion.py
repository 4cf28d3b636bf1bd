"""Magnitudes back to a wave: fast Griffin-Lim from an integrated phase.

Griffin and Lim (1984) alternate between "has these magnitudes" and "is the transform of a wave";
Perraudin, Balazs and Sondergaard (2013) extrapolate each step, c + momentum (c - previous c).
`phase.py` finds the start. A GPU is no faster at it than the compiled loops of a CPU, so all runs
on the CPU. B batch, T frames, F bins, N = (T - 1) * hop_length samples.
"""

import math

import numpy as np
import torch
from torch import Tensor

from tacoskip.audio.frames import Frames
from tacoskip.audio.phase import integrate_phase
from tacoskip.audio.settings import AudioSettings, GriffinLimSettings
from tacoskip.kernels.cpu import spectra

MOMENTUM = 0.95  # docs/explanation/audio.md compares it with others
# Sharpening leaves a sine of this amplitude as loud as it is. Clips of LJSpeech keep their level
# within 1 dB.
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


def invert(
    magnitude: Tensor,
    lengths: Tensor | None,
    frames: Frames,
    settings: GriffinLimSettings,
    seed: int,
    momentum: float = MOMENTUM,
) -> list[Tensor]:
    """Waves ((length - 1) * hop_length,) of magnitudes (B, T, F), on the CPU."""
    if magnitude.ndim != 3 or 0 in magnitude.shape or magnitude.shape[2] != frames.n_bins:
        raise ValueError(
            f"expected magnitudes (B >= 1, T >= 1, {frames.n_bins}), got {tuple(magnitude.shape)}"
        )
    least, most = magnitude.aminmax()
    if not 0 <= least <= most < math.inf:  # NaN is both, if there is one
        raise ValueError("expected finite magnitudes of at least 0, got negative, NaN or infinite")
    magnitude = magnitude.detach().float().cpu()
    n_items, n_frames, _ = magnitude.shape
    counts = [n_frames] * n_items if lengths is None else [int(n) for n in lengths]
    if len(counts) != n_items or min(counts) < 1 or max(counts) > n_frames:
        raise ValueError(f"expected {n_items} lengths within 1 to {n_frames}, got {counts}")
    waves = []
    for padded, count in zip(magnitude, counts, strict=True):
        item = padded[:count]
        phase = np.zeros(tuple(item.shape), np.float32)
        if settings.phase != "zero":
            np.random.default_rng(seed).random(dtype=np.float32, out=phase)
            phase *= np.float32(2 * np.pi)
        if settings.phase == "pghi":
            integrate_phase(item.numpy(), phase, frames)
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
    return project(magnitude, phase, frames, scale, iterations, momentum)[start:end]


def project(
    magnitude: Tensor,
    phase: Tensor,
    frames: Frames,
    scale: Tensor,
    iterations: int,
    momentum: float,
) -> Tensor:
    """Run Griffin-Lim on magnitudes (T, F) from a first `phase` (T, F).

    The buffer (L,), which is returned, is the sum of overlapped frames times `scale` (L,), one over
    the sum of squared windows; 0 where there must be silence.
    """
    # Only its direction counts, so c + m (c - p) may be written c - m / (1 + m) p.
    pull = momentum / (1 + momentum)
    if spectra.transforms(magnitude, frames.n_fft):
        shape = frames.window, frames.n_fft, frames.hop_length
        return spectra.project(magnitude, phase, *shape, scale, iterations, pull)
    buffer = frames.overlap_add(torch.polar(magnitude, phase)) * scale
    previous = torch.zeros_like(magnitude, dtype=torch.complex64)
    for _ in range(iterations):
        rebuilt = frames.transform(buffer, slice(0, len(magnitude)))
        ahead = torch.sub(rebuilt, previous, alpha=pull)
        previous = rebuilt
        buffer = frames.overlap_add(ahead.sgn() * magnitude) * scale
    return buffer
