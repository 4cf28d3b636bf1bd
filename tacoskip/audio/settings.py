"""Settings of the one front end that training, evaluation and inversion share."""

from dataclasses import dataclass


@dataclass
class AudioSettings:
    """How a waveform becomes frames. Tacotron's own values are the defaults (Wang et al. 2017, table 1).

    `n_fft = 0` takes the next power of two above the window; `f_max = 0` takes the Nyquist frequency.
    """

    sample_rate: int = 22050
    window_ms: float = 50.0
    hop_ms: float = 12.5
    n_fft: int = 0
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float = 0.0
    preemphasis: float = 0.97
    floor_db: float = -100.0

    @property
    def hop_length(self) -> int:
        return round(self.sample_rate * self.hop_ms / 1000)

    @property
    def window_length(self) -> int:
        return round(self.sample_rate * self.window_ms / 1000)

    @property
    def fft_length(self) -> int:
        return self.n_fft or 1 << (self.window_length - 1).bit_length()

    @property
    def n_bins(self) -> int:
        return self.fft_length // 2 + 1

    @property
    def frames_per_second(self) -> float:
        return self.sample_rate / self.hop_length


@dataclass
class GriffinLimSettings:
    """`sharpening` is the power the predicted magnitudes are raised to before inversion (Tacotron: 1.2)."""

    iterations: int = 30
    momentum: float = 0.99
    tolerance: float = 0.0
    sharpening: float = 1.2
