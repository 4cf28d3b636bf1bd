"""The audio's loops in C against the same in torch and numpy."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from tacoskip.audio import AudioSettings, FrontEnd
from tacoskip.audio.frames import Frames
from tacoskip.audio.inversion import project
from tacoskip.audio.phase import integrate_phase
from tacoskip.kernels import cpu as native
from tacoskip.kernels.cpu import spectra

# FFT, hop, window: powers of four and of two, odd windows, windows that fill the FFT, barely
# overlap, or are short in it.
SHAPES = [(64, 13, 64), (128, 16, 33), (256, 10, 255), (512, 200, 400), (2048, 276, 1102)]
SHAPES += [(4096, 100, 401), (8192, 4096, 8192)]


@pytest.fixture(autouse=True)
def there_are_loops() -> None:
    if native.library() is None:
        pytest.skip(native.missing())


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "is_supported", lambda x: False)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("samples", [0, 1, 9001])
def test_magnitudes_are_numpys(shape: tuple[int, int, int], samples: int) -> None:
    n_fft, hop, window = shape
    torch.manual_seed(samples)
    waves, taper = torch.randn(2, samples), torch.hann_window(window, dtype=torch.float64)
    bands = spectra.bands(torch.ones(n_fft // 2 + 1, 1))
    logs, _ = spectra.features(waves, taper, n_fft, hop, 0.5, bands, 1e-9)
    assert logs.shape == (2, 1 + samples // hop, n_fft // 2 + 1)
    got = 10 ** logs.double()
    lead = (window + 1) // 2
    buffer = np.zeros((2, lead + samples + window))
    buffer[:, lead : lead + samples] = waves
    buffer[:, lead + 1 : lead + samples] -= 0.5 * waves[:, :-1].double().numpy()
    for t in range(got.shape[1]):
        frame = buffer[:, t * hop : t * hop + window] * taper.numpy()
        expected = np.abs(np.fft.rfft(frame, n_fft))
        # To float32's precision of each bin, however loud its neighbours: the sums are double.
        np.testing.assert_allclose(got[:, t], expected, rtol=2e-6, atol=2e-9)


def test_quiet_bins_are_right_beside_loud_ones() -> None:
    """100 dB under a sine float32 transforms are wrong in the second digit."""
    time = torch.arange(30000, dtype=torch.float64)
    wave = (0.9 * torch.sin(0.3 * time) + 1e-6 * torch.sin(2.0 * time)).float()
    front_end = FrontEnd(AudioSettings())
    for got, expected in zip(
        front_end.features(wave), front_end.features(wave.double()), strict=True
    ):
        torch.testing.assert_close(got.double(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("n_mels", [1, 13, 80, 400])
@pytest.mark.filterwarnings("ignore:.* mel bands lie between two bins")
def test_mel_bands_are_the_filters_product(n_mels: int) -> None:
    front_end = FrontEnd(AudioSettings(sample_rate=8000, n_mels=n_mels, f_min=50, f_max=3900))
    waves = 0.1 * torch.randn(3, 5000)
    for got, expected in zip(
        front_end.features(waves), front_end.features(waves.double()), strict=True
    ):
        torch.testing.assert_close(got.double(), expected, atol=2e-6, rtol=0)


def test_what_is_not_finite_is_seen() -> None:
    wave = torch.randn(9000)
    wave[4000] = torch.nan
    linear, mel = FrontEnd(AudioSettings()).features(wave)
    assert linear.isnan().any() and mel.isnan().any() and linear[0].isfinite().all()


def a_projection(shape: tuple[int, int, int], frames: int) -> tuple[Tensor, ...]:
    """Magnitude, phase (T, F) and scale (L,)."""
    n_fft, hop, window = shape
    torch.manual_seed(frames)
    made = Frames(n_fft, hop, window)
    magnitude = torch.randn(frames, n_fft // 2 + 1).exp()
    phase = 100 * torch.randn_like(magnitude)
    scale = made.envelope(frames).clamp_min(1e-2).reciprocal()
    return magnitude, phase, scale


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("frames", [1, 16, 50])
def test_griffin_lim_equals_torchs(
    shape: tuple[int, int, int], frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    magnitude, phase, scale = a_projection(shape, frames)
    got = project(magnitude, phase, Frames(*shape), scale, 3, 0.95)
    in_torch(monkeypatch)
    expected = project(magnitude, phase, Frames(*shape), scale, 3, 0.95)
    far = float((got - expected).norm() / expected.norm())
    assert got.shape == expected.shape and far < 1e-4


def test_threads_change_no_bit(threads: None) -> None:
    given = a_projection((512, 100, 400), 100)
    waves, front_end = torch.randn(3, 20000), FrontEnd(AudioSettings())
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        magnitude, phase, scale = given
        wave = project(magnitude, phase, Frames(512, 100, 400), scale, 4, 0.95)
        found.append((wave, *front_end.features(waves)))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("shape", [(1, 1), (1, 257), (2, 257), (40, 257)])
def test_the_same_bins_get_a_phase(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bins in reach have one and the same phase where there is but one way to them."""
    rng = np.random.default_rng(0)
    magnitude = (10 ** rng.uniform(-5, 0, shape)).astype(np.float32)
    noise = rng.random(shape, np.float32)
    got, expected = noise.copy(), noise.copy()
    integrate_phase(magnitude, got, Frames(512, 100, 400))
    in_torch(monkeypatch)
    integrate_phase(magnitude, expected, Frames(512, 100, 400))
    np.testing.assert_array_equal(got == noise, expected == noise)
    far = np.abs(np.exp(1j * got.astype(np.float64)) - np.exp(1j * expected.astype(np.float64)))
    # Within a level of 0.1 neper either may come first.
    assert np.median(far) < 1e-3 and (far < 1e-3).mean() > 0.8


@pytest.mark.parametrize("n_fft", [60, 1000, 32])
def test_other_lengths_are_torchs(n_fft: int) -> None:
    assert not spectra.transforms(torch.zeros(1), n_fft)
    assert spectra.transforms(torch.zeros(1), 64)
    assert not spectra.transforms(torch.zeros(1, dtype=torch.float64), 64)
