"""Overlapping frames of a wave, and back: the front end's transform, and Griffin-Lim's two steps.

Work goes through blocks of a few dozen frames, which stay in the processor's cache: on long clips
that is several times as fast as one transform of all frames. On a CPU with a C compiler most of it
is not done here, but by `kernels/cpu/spectra.c`.

T frames, F bins, W window_length. A buffer (..., L), L = `buffer_length(T)`, holds what the
windows reach: frame t's covers the buffer's samples [t * hop_length, t * hop_length + W). Sample 0
of the wave, librosa's centre of frame 0, is the buffer's sample `lead`.
"""

import torch
from torch import Tensor


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

    @property
    def shape(self) -> tuple[int, int, int]:
        """n_fft, hop_length and window_length."""
        return self.n_fft, self.hop_length, self.window_length

    def buffer_length(self, n_frames: int) -> int:
        return (n_frames - 1 + self.overlap) * self.hop_length

    def blocks(self, n_items: int, n_frames: int, at_once: int = 64) -> list[slice]:
        """Cut T frames into blocks: `at_once` frames of all items together."""
        size = max(1, at_once // max(1, n_items))
        return [slice(i, min(i + size, n_frames)) for i in range(0, n_frames, size)]

    def transform(self, buffer: Tensor, block: slice) -> Tensor:
        """Spectrum complex (..., block, F) of a buffer (..., L)."""
        frames = buffer.unfold(-1, self.window_length, self.hop_length)[..., block, :]
        spectrum: Tensor = torch.fft.rfft(frames * self.window, n=self.n_fft)
        return spectrum

    def overlap_add(self, buffer: Tensor, spectrum: Tensor, block: slice) -> None:
        """Add the windowed frames of a spectrum (block, F) to a buffer (L,), in place."""
        frames = torch.fft.irfft(spectrum, n=self.n_fft)[..., : self.window_length]
        self._add(buffer, frames.mul_(self.window), block)

    def envelope(self, n_frames: int) -> Tensor:
        """Sum of squared windows (L,) over `n_frames`."""
        buffer = self.window.new_zeros(self.buffer_length(n_frames))
        self._add(buffer, self.window.square().expand(n_frames, -1), slice(0, n_frames))
        return buffer

    def _add(self, buffer: Tensor, frames: Tensor, block: slice) -> None:
        """Add the first hop of all frames at once, then the second: no two land on one place."""
        rows = buffer.view(-1, self.hop_length)
        for i in range(self.overlap):
            piece = frames[:, i * self.hop_length : (i + 1) * self.hop_length]
            rows[block.start + i : block.stop + i, : piece.shape[-1]] += piece
