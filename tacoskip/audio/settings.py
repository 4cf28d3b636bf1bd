"""Settings of the one front end that training, evaluation and inversion share."""

from dataclasses import dataclass


@dataclass
class AudioSettings:
    """How a waveform becomes frames; the defaults are Tacotron's (Wang et al. 2017, table 1).

    `n_fft = 0` takes the next power of two from the window up; `f_max = 0` takes the Nyquist
    frequency. `floor_db` is the smallest magnitude kept, where a full-scale sine is about
    20 log10(window_length / 4) dB. Raises ValueError when the values cannot go together.
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

    def __post_init__(self) -> None:
        if self.sample_rate < 1:
            raise ValueError(f"expected sample_rate of at least 1 Hz, got {self.sample_rate}")
        if self.hop_length < 1:
            raise ValueError(f"expected hop_ms of at least one sample, got {self.hop_ms}")
        if self.window_length < 2 * self.hop_length:
            raise ValueError(
                f"expected window_ms of at least two hops, so that frames overlap by half: got "
                f"window_ms={self.window_ms}, hop_ms={self.hop_ms}"
            )
        if self.n_fft and (self.n_fft < self.window_length or self.n_fft % 2):
            raise ValueError(
                f"expected n_fft even and at least the window's {self.window_length} samples, "
                f"got {self.n_fft}"
            )
        if self.n_mels < 1:
            raise ValueError(f"expected n_mels of at least 1, got {self.n_mels}")
        nyquist = self.sample_rate / 2
        if not 0 <= self.f_min < (self.f_max or nyquist) <= nyquist:
            raise ValueError(
                f"expected 0 <= f_min < f_max <= {nyquist:g} Hz, got f_min={self.f_min:g}, "
                f"f_max={self.f_max:g}"
            )
        if not 0 <= self.preemphasis < 1:
            raise ValueError(f"expected preemphasis in [0, 1), got {self.preemphasis}")
        if not -180 <= self.floor_db <= 0:
            raise ValueError(f"expected floor_db from -180 to 0, got {self.floor_db}")

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
    """How magnitudes become a wave; `docs/audio.md` has the measurements behind the defaults.

    `tolerance`: an utterance stops early once five iterations lower its spectral convergence by
    less (0: never). `sharpening`: the power predicted magnitudes are raised to (Tacotron: 1.2).
    `phase`: the start, "pghi" (integrated from the magnitudes), "random" or "zero".
    """

    iterations: int = 10
    momentum: float = 0.95
    tolerance: float = 0.0
    sharpening: float = 1.2
    phase: str = "pghi"

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise ValueError(f"expected iterations of at least 0, got {self.iterations}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"expected momentum in [0, 1), got {self.momentum}")
        if self.tolerance < 0:
            raise ValueError(f"expected tolerance of at least 0, got {self.tolerance}")
        if self.sharpening <= 0:
            raise ValueError(f"expected sharpening above 0, got {self.sharpening}")
        if self.phase not in ("pghi", "random", "zero"):
            raise ValueError(f"expected phase pghi, random or zero, got {self.phase!r}")
