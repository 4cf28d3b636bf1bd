from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacoskip.audio import AudioSettings, FrontEnd, GriffinLimSettings, griffin_lim, read_audio
from tacoskip.audio.frames import Frames
from tacoskip.audio.inversion import SHARPENING_LEVEL, from_phase

pytestmark = pytest.mark.usefixtures("both_ways")

Voice = Callable[..., NDArray[np.float32]]
SHAPES = [(512, 100, 400), (512, 90, 333), (512, 128, 512), (1024, 100, 250)]
BY_LIBROSA = {"n_fft": 512, "hop_length": 100, "win_length": 400}


def magnitude_of(wave: NDArray[np.float32], shape: tuple[int, int, int]) -> Tensor:
    n_fft, hop, window = shape
    spectrum = librosa.stft(wave, n_fft=n_fft, hop_length=hop, win_length=window)
    return torch.from_numpy(np.abs(spectrum.T))[None].float()


def by_librosas_phase(
    magnitude: Tensor, phase: Tensor, shape: tuple[int, int, int], iterations: int, *momentum: float
) -> Tensor:
    """A wave (1, N) by Griffin-Lim from a phase (1, T, F) as librosa counts it."""
    frames = Frames(*shape)
    turn = torch.pi * torch.arange(frames.n_bins) * (1 - 2 * frames.lead / frames.n_fft)
    return from_phase(magnitude[0], (phase[0] + turn).float(), frames, iterations, *momentum)[None]


def convergence(wave: Tensor, magnitude: Tensor, shape: tuple[int, int, int]) -> float:
    """Spectral convergence of a wave (N,) against magnitudes (1, T, F), by librosa's transform."""
    rebuilt = magnitude_of(wave.numpy(), shape)
    return float((rebuilt - magnitude).norm() / magnitude.norm())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_true_phase_gives_the_wave_back(voice: Voice, shape: tuple[int, int, int]) -> None:
    wave = voice(8000, 0.5)
    n_fft, hop, window = shape
    spectrum = librosa.stft(wave, n_fft=n_fft, hop_length=hop, win_length=window).T[None]
    phase = torch.from_numpy(np.angle(spectrum))
    got = by_librosas_phase(torch.from_numpy(np.abs(spectrum)), phase, shape, 0)
    assert got.shape == (1, (spectrum.shape[1] - 1) * hop)
    # Past the last centre the wave is taken as silent, which the last frames disagree with.
    inner = got.shape[1] - window
    np.testing.assert_allclose(got[0, :inner], wave[:inner], atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.95])
def test_the_same_steps_as_librosa(
    voice: Voice, shape: tuple[int, int, int], momentum: float
) -> None:
    magnitude = magnitude_of(voice(8000, 0.5), shape)
    n_fft, hop, window = shape
    expected = librosa.griffinlim(
        magnitude[0].numpy().T,
        n_iter=4,
        n_fft=n_fft,
        hop_length=hop,
        win_length=window,
        momentum=momentum,
        random_state=np.random.default_rng(0),
    )
    phase = 2 * np.pi * np.random.default_rng(0).random(magnitude[0].T.shape)
    got = by_librosas_phase(magnitude, torch.from_numpy(phase.T)[None], shape, 4, momentum)
    np.testing.assert_allclose(got[0], expected, atol=2e-3)


def test_thirty_iterations_come_nearer_than_librosas_hundred(voice: Voice) -> None:
    shape = SHAPES[0]
    magnitude = magnitude_of(voice(8000, 1.5), shape)
    theirs = librosa.griffinlim(magnitude[0].numpy().T, n_iter=100, random_state=0, **BY_LIBROSA)
    ours = griffin_lim(magnitude, *shape, iterations=30)[0]
    assert convergence(ours, magnitude, shape) < convergence(
        torch.from_numpy(theirs), magnitude, shape
    )


def test_thirty_iterations_come_nearer_than_librosas_hundred_on_recordings(
    recording: Path,
) -> None:
    wave, rate = read_audio(recording)
    settings = AudioSettings(sample_rate=rate, n_mels=60)
    shape = settings.fft_length, settings.hop_length, settings.window_length
    magnitude = magnitude_of(wave[: 2 * rate], shape)
    theirs = librosa.griffinlim(
        magnitude[0].numpy().T,
        n_iter=100,
        n_fft=shape[0],
        hop_length=shape[1],
        win_length=shape[2],
        random_state=0,
    )
    ours = griffin_lim(magnitude, *shape, iterations=30)[0]
    assert convergence(ours, magnitude, shape) < convergence(
        torch.from_numpy(theirs), magnitude, shape
    )


def test_the_integrated_start_is_worth_many_iterations(voice: Voice) -> None:
    front_end = FrontEnd(AudioSettings(sample_rate=8000, n_mels=60))
    linear, _ = front_end.features(voice(8000))
    found = {}
    for phase in ("pghi", "random", "zero"):
        settings = GriffinLimSettings(iterations=10, sharpening=1.0, phase=phase)
        rebuilt = 10 ** front_end.features(front_end.to_wave(linear[None], settings=settings)[0])[0]
        found[phase] = float((rebuilt - 10**linear).norm() / (10**linear).norm())
    assert found["pghi"] < 0.6 * found["random"]
    assert found["pghi"] < 0.6 * found["zero"]


def batch(voice: Voice) -> tuple[Tensor, Tensor]:
    """Four log magnitudes (4, T, F) of different length, and nonsense behind each."""
    front_end = FrontEnd(AudioSettings(sample_rate=8000, n_mels=60))
    items = [
        front_end.features(voice(8000, seconds, seed=i))[0]
        for i, seconds in enumerate((0.6, 0.15, 0.01, 0.4))
    ]
    lengths = torch.tensor([len(item) for item in items])
    padded = torch.randn(4, 60, 257)
    for row, item in zip(padded, items, strict=True):
        row[: len(item)] = item
    return padded, lengths


def test_an_item_alone_equals_itself_in_a_padded_batch(voice: Voice) -> None:
    front_end = FrontEnd(AudioSettings(sample_rate=8000, n_mels=60))
    linear, lengths = batch(voice)
    waves = front_end.to_wave(linear, lengths)
    for row, length, wave in zip(linear, lengths.tolist(), waves, strict=True):
        assert wave.dtype == torch.float32 and wave.shape == ((length - 1) * 100,)
        torch.testing.assert_close(wave, front_end.to_wave(row[None, :length])[0])


def test_lengths_silence_what_follows(voice: Voice) -> None:
    linear, lengths = batch(voice)
    waves = griffin_lim(10**linear, 512, 100, 400, 5, lengths=lengths)
    assert waves.shape == (4, 5900)
    for wave, length in zip(waves, lengths.tolist(), strict=True):
        assert not wave[(length - 1) * 100 :].any()
        assert length == 1 or wave[: (length - 1) * 100].abs().max() > 0


def test_a_seed_repeats_the_wave(voice: Voice) -> None:
    front_end = FrontEnd(AudioSettings(sample_rate=8000, n_mels=60))
    linear = front_end.features(voice(8000, 0.3))[0][None]
    for phase in ("pghi", "random"):
        settings = GriffinLimSettings(3, phase=phase)
        waves = [front_end.to_wave(linear, settings=settings, seed=s)[0] for s in (1, 1, 2)]
        assert torch.equal(waves[0], waves[1])
        assert not torch.equal(waves[0], waves[2])


def test_loudness_stays_with_sharpening(voice: Voice) -> None:
    """A sine at the reference level keeps it, a louder one grows, nothing is clamped."""
    front_end = FrontEnd(AudioSettings(sample_rate=8000, n_mels=60, preemphasis=0.0))
    sine = torch.sin(torch.arange(8000) * 0.6)
    for gain, expected in ((1.0, 1.0), (100.0, 100**1.2 / 100)):
        linear, _ = front_end.features(gain * SHARPENING_LEVEL * sine)
        (wave,) = front_end.to_wave(linear[None], settings=GriffinLimSettings(sharpening=1.2))
        level = wave[1000:-1000].abs().max() / (gain * SHARPENING_LEVEL)
        assert level == pytest.approx(expected, rel=0.05)


def test_preemphasis_is_undone(voice: Voice) -> None:
    front_end = FrontEnd(AudioSettings(sample_rate=8000, n_mels=60))
    wave = torch.from_numpy(voice(8000))
    linear, _ = front_end.features(wave)
    (back,) = front_end.to_wave(linear[None], settings=GriffinLimSettings(60, sharpening=1.0))
    level, expected = (float(w.square().mean().sqrt()) for w in (back, wave))
    assert level == pytest.approx(expected, rel=0.03)


def test_silence_and_one_frame() -> None:
    assert not griffin_lim(torch.zeros(1, 9, 257), *SHAPES[0]).any()
    assert griffin_lim(torch.ones(2, 1, 257), *SHAPES[0]).shape == (2, 0)


def test_a_transposed_view_is_taken(voice: Voice) -> None:
    magnitude = magnitude_of(voice(8000, 0.2), SHAPES[0])
    view = magnitude.transpose(1, 2).contiguous().transpose(1, 2)
    got, expected = griffin_lim(view, *SHAPES[0], 3), griffin_lim(magnitude, *SHAPES[0], 3)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("magnitude", "options", "message"),
    [
        (torch.zeros(1, 5, 256), {}, r"T >= 1, 257\), got \(1, 5, 256\)"),
        (torch.zeros(5, 257), {}, r"got \(5, 257\)"),
        (torch.zeros(1, 0, 257), {}, r"got \(1, 0, 257\)"),
        (torch.full((1, 5, 257), torch.nan), {}, "finite magnitudes"),
        (torch.full((1, 5, 257), -1.0), {}, "finite magnitudes"),
        (torch.zeros(1, 5, 257), {"lengths": torch.tensor([6])}, r"within 1 to 5, got \[6\]"),
        (torch.zeros(1, 5, 257), {"lengths": torch.tensor([0])}, r"within 1 to 5, got \[0\]"),
        (torch.zeros(1, 5, 257), {"lengths": torch.tensor([5, 5])}, "expected 1 lengths"),
        (torch.zeros(1, 5, 257), {"iterations": -1}, "iterations"),
    ],
)
def test_what_does_not_fit_is_named(
    magnitude: Tensor, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        griffin_lim(magnitude, *SHAPES[0], **options)  # type: ignore[arg-type]


def test_frames_must_overlap_by_half() -> None:
    with pytest.raises(ValueError, match="hop_length=300, window_length=400"):
        griffin_lim(torch.zeros(1, 5, 257), 512, 300, 400)
