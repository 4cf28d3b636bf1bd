"""Overlapping frames of a wave, and back: the front end's transform, and Griffin-Lim's two steps.

On a CPU with a C compiler most of it is not done here, but by `kernels/cpu/spectra.c`.

T frames, F bins, W window_length. A buffer (..., L), L = `buffer_length(T)`, holds what the
windows reach: frame t's covers the buffer's samples [t * hop_length, t * hop_length + W). Sample 0
of the wave, librosa's centre of frame 0, is the buffer's sample `lead`.
"""

import torch
from torch import Tensor
from torch.nn import functional


class Frames:
    """Transforms of one shape: periodic Hann, phase counted from the window's start.

    Raises ValueError unless 2 * hop_length <= window_length <= n_fft and n_fft is even.
    """

    def __init__(
        self,
        n_fft: int,
        hop_length: int,
        window_length: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not 2 <= 2 * hop_length <= window_length <= n_fft or n_fft % 2:
            raise ValueError(
                "expected 2 * hop_length <= window_length <= n_fft and n_fft even, got hop_length="
                f"{hop_length}, window_length={window_length}, n_fft={n_fft}"
            )
        self.n_fft, self.hop_length, self.window_length = n_fft, hop_length, window_length
        self.n_bins = n_fft // 2 + 1
        # librosa centres an odd window half a sample late.
        self.lead = (window_length + 1) // 2
        self.overlap = -(-window_length // hop_length)
        self.window = torch.hann_window(window_length, dtype=dtype)

    def buffer_length(self, n_frames: int) -> int:
        return (n_frames - 1 + self.overlap) * self.hop_length

    def transform(self, buffer: Tensor, block: slice) -> Tensor:
        """Spectrum complex (..., block, F) of a buffer (..., L)."""
        frames = buffer.unfold(-1, self.window_length, self.hop_length)[..., block, :]
        spectrum: Tensor = torch.fft.rfft(frames * self.window, n=self.n_fft)
        return spectrum

    def overlap_add(self, spectrum: Tensor) -> Tensor:
        """The sum (L,) of the windowed frames of a spectrum (T, F)."""
        frames = torch.fft.irfft(spectrum, n=self.n_fft)[..., : self.window_length]
        return self._sum(frames * self.window)

    def envelope(self, n_frames: int) -> Tensor:
        """Sum of squared windows (L,) over `n_frames`."""
        return self._sum(self.window.square().expand(n_frames, -1))

    def _sum(self, frames: Tensor) -> Tensor:
        reach = self.overlap * self.hop_length
        columns = functional.pad(frames, (0, reach - self.window_length)).T[None]
        size = 1, self.buffer_length(len(frames))
        return functional.fold(columns, size, (1, reach), stride=(1, self.hop_length))[0, 0, 0]


def preemphasis(wave: Tensor, coefficient: float) -> Tensor:
    """Lift what is high and quiet in waves (..., N): wave[n] - coefficient * wave[n - 1]."""
    if coefficient == 0 or wave.shape[-1] == 0:
        return wave
    return wave - coefficient * functional.pad(wave[..., :-1], (1, 0))


def deemphasis(wave: Tensor, coefficient: float) -> Tensor:
    """Undo it for a wave (N,): y[n] = wave[n] + coefficient * y[n - 1].

    The filter 1 / (1 - c z^-1) is the product of all 1 + c^(2^k) z^-(2^k). Nothing is clamped, as
    torchaudio's `deemphasis` does: a wave that is too loud shows.
    """
    y, step, factor = wave.to(torch.float64, copy=True), 1, coefficient
    while step < len(y) and abs(factor) > 1e-18:
        y[step:] += factor * y[:-step]
        step, factor = 2 * step, factor**2
    return y.to(wave.dtype)
