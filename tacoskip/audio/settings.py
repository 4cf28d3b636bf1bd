"""Settings of the one front end that training, evaluation and inversion share."""

from dataclasses import dataclass

from tacoskip.settings import check, setting

FLOOR_DB = -100.0  # smallest magnitude kept; a full-scale sine is about 20 log10(window / 4) dB


@dataclass
class AudioSettings:
    """How a waveform becomes frames; the defaults are Tacotron's (Wang et al. 2017, table 1).

    Raises ValueError when the values cannot go together.
    """

    sample_rate: int = setting(22050, "Samples a second; recordings are resampled to it.", above=0)
    window_ms: float = setting(50.0, "Length of an analysis window.", above=0)
    hop_ms: float = setting(12.5, "Time from one frame to the next.", above=0)
    n_mels: int = setting(80, "Mel bands.", above=0, most=1000)
    f_min: float = setting(0.0, "Lowest frequency of the mel bands, in Hz.")
    f_max: float = setting(0.0, "Highest frequency of the mel bands, in Hz; 0: half the rate.")
    preemphasis: float = setting(0.97, "Coefficient of the pre-emphasis filter.", below=1)

    def __post_init__(self) -> None:
        check(self)
        if self.hop_length < 1:
            raise ValueError(f"expected hop_ms of at least one sample, got {self.hop_ms}")
        if self.window_length < 2 * self.hop_length:
            raise ValueError(
                f"expected window_ms of at least two hops, so that frames overlap by half: got "
                f"window_ms={self.window_ms}, hop_ms={self.hop_ms}"
            )
        nyquist = self.sample_rate / 2
        if not 0 <= self.f_min < (self.f_max or nyquist) <= nyquist:
            raise ValueError(
                f"expected 0 <= f_min < f_max <= {nyquist:g} Hz, got f_min={self.f_min:g}, "
                f"f_max={self.f_max:g}"
            )

    @property
    def hop_length(self) -> int:
        return round(self.sample_rate * self.hop_ms / 1000)

    @property
    def window_length(self) -> int:
        return round(self.sample_rate * self.window_ms / 1000)

    @property
    def fft_length(self) -> int:
        """The power of two from the window up."""
        return 1 << (self.window_length - 1).bit_length()

    @property
    def n_bins(self) -> int:
        return self.fft_length // 2 + 1

    @property
    def frames_per_second(self) -> float:
        return self.sample_rate / self.hop_length


@dataclass
class GriffinLimSettings:
    """How magnitudes become a wave (docs/explanation/audio.md: measurements)."""

    iterations: int = setting(10, "Iterations of fast Griffin-Lim.", most=1000)
    sharpening: float = setting(
        1.2, "Power that predicted magnitudes are raised to (Tacotron: 1.2).", above=0
    )
    phase: str = setting(
        "pghi",
        "The phase to start from; pghi integrates it from the magnitudes.",
        choices=("pghi", "random", "zero"),
    )

    def __post_init__(self) -> None:
        check(self)
