"""The one front end: waveform to log magnitudes, linear and mel, and back.

Training, evaluation and synthesis all use this class, so their frames cannot differ. Equal to
librosa's `stft` (centred, zero-padded, periodic Hann window) and `feature.melspectrogram(power=1)`
(Slaney mel) after pre-emphasis. N samples, T = 1 + N // hop_length frames, F bins, M mel bands.
"""

import math
import warnings
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from tacoskip.audio.frames import Frames, deemphasis, preemphasis
from tacoskip.audio.inversion import invert, sharpen
from tacoskip.audio.settings import FLOOR_DB, AudioSettings, GriffinLimSettings
from tacoskip.kernels.cpu import spectra


class FrontEnd:
    """Waves (..., N) to log10 magnitudes and back, on the CPU; nothing to learn.

    Zero padding, librosa's default too, has two merits over reflection: a clip of any length has
    frames, and a clip padded with zeros has the frames it has alone.
    """

    def __init__(self, settings: AudioSettings) -> None:
        self.settings = settings
        basis = mel_filters(settings)
        empty = int((basis.max(axis=0) == 0).sum())
        if empty:
            warnings.warn(
                f"{empty} of {settings.n_mels} mel bands lie between two bins of an FFT of "
                f"{settings.fft_length} and stay silent: lower n_mels or raise window_ms",
                stacklevel=2,
            )
        self.mel_basis = torch.from_numpy(basis).float()

    @property
    def floor(self) -> float:
        """The smallest log10 magnitude: what silence has."""
        return FLOOR_DB / 20

    @torch.no_grad()
    def features(self, wave: Tensor | ArrayLike) -> tuple[Tensor, Tensor]:
        """Log10 magnitudes, linear (..., T, F) and mel (..., T, M), of waves (..., N), floored.

        Without a gradient. float64 for a float64 wave, else float32; computed in float64 either
        way, since 100 dB below a loud bin float32 is wrong in the second digit.
        Raises ValueError when the wave is not of floating point.
        """
        wave = torch.as_tensor(wave, device="cpu")
        if not wave.is_floating_point() or wave.ndim == 0:
            raise ValueError(
                f"expected a floating point wave (..., N), got {wave.dtype} {tuple(wave.shape)}"
            )
        s, smallest, leading = self.settings, 10**self.floor, wave.shape[:-1]
        waves = wave.reshape(math.prod(leading), wave.shape[-1])
        if spectra.transforms(wave, s.fft_length):
            window = torch.hann_window(s.window_length, dtype=torch.float64)
            shape = s.fft_length, s.hop_length, s.preemphasis
            linear, mel = spectra.features(waves, window, *shape, self._bands, smallest)
        else:
            linear = self._transform(waves)
            mel = (linear @ self.mel_basis.to(linear)).clamp_min_(smallest).log10_()
            linear.clamp_min_(smallest).log10_()
        return linear.view(*leading, *linear.shape[1:]), mel.view(*leading, *mel.shape[1:])

    def _transform(self, waves: Tensor) -> Tensor:
        """Magnitudes (B, T, F) of waves (B, N) by torch."""
        s = self.settings
        out = torch.float64 if waves.dtype == torch.float64 else torch.float32
        frames = Frames(s.fft_length, s.hop_length, s.window_length, torch.float64)
        x = preemphasis(waves.double(), s.preemphasis)
        n_frames = 1 + x.shape[-1] // s.hop_length
        x = functional.pad(x, (frames.lead, s.window_length))
        return frames.transform(x, slice(0, n_frames)).abs().to(out)

    @cached_property
    def _bands(self) -> spectra.Bands:
        return spectra.bands(torch.from_numpy(mel_filters(self.settings)))

    def to_wave(
        self,
        linear: Tensor,
        lengths: Tensor | None = None,
        settings: GriffinLimSettings | None = None,
        seed: int = 0,
    ) -> list[Tensor]:
        """Invert log10 linear magnitudes (B, T, F); `lengths` (B,) are their real frames.

        Returns per item a float32 wave of (length - 1) * hop_length samples on the CPU,
        de-emphasised, not clipped. It depends neither on other items nor on padding, and a seed
        repeats it.
        Raises ValueError when shape or lengths do not fit or a magnitude is not finite.
        """
        s, how = self.settings, settings or GriffinLimSettings()
        frames = Frames(s.fft_length, s.hop_length, s.window_length)
        waves = invert(sharpen(linear, s, how.sharpening), lengths, frames, how, seed)
        return [deemphasis(wave, s.preemphasis) for wave in waves]


def mel_filters(settings: AudioSettings) -> NDArray[np.float64]:
    """Triangles of equal area on Slaney's mel scale (Auditory Toolbox, 1998), (F, M).

    The scale is linear up to 1 kHz, 200/3 Hz a mel, then logarithmic, 27 mels a factor of 6.4.
    """
    ends = np.array([settings.f_min, settings.f_max or settings.sample_rate / 2])
    above = np.log(np.maximum(ends, 1000) / 1000) / np.log(6.4)
    first, last = np.minimum(ends, 1000) * 3 / 200 + 27 * above
    mels = np.linspace(float(first), float(last), settings.n_mels + 2)
    corners = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    bins = np.fft.rfftfreq(settings.fft_length, 1 / settings.sample_rate)[:, None]
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    return np.asarray(np.maximum(0.0, triangles) * 2 / (high - low))
