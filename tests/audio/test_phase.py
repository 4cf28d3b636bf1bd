import heapq
from collections.abc import Callable

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tacoskip.audio import phase
from tacoskip.audio.frames import Frames
from tacoskip.audio.phase import HANN, TOLERANCE, integrate_phase

pytestmark = pytest.mark.usefixtures("both_ways")

Voice = Callable[..., NDArray[np.float32]]
SHAPE = 512, 100, 400


def spectrum_of(wave: NDArray[np.floating]) -> NDArray[np.complex64]:
    """Frames (T, F) counted from the window's start."""
    buffer = torch.from_numpy(wave.astype(np.float32))
    return Frames(*SHAPE).transform(buffer, slice(0, 1 + (len(wave) - 400) // 100)).numpy()


def plain_pghi(magnitude: NDArray[np.float32]) -> NDArray[np.float64]:
    """The paper's algorithm 1, as slow as it reads: a heap, float64, the gradients as arrays."""
    n_fft, hop, length = SHAPE
    gamma = HANN * length**2
    log = np.log(magnitude.astype(np.float64))
    across_bins, across_frames = np.gradient(log, axis=1), np.gradient(log, axis=0)
    across_bins[:, [0, -1]] = 0
    bins = np.arange(log.shape[1])
    in_time = 2 * np.pi * hop * bins / n_fft + hop * n_fft / gamma * across_bins
    in_frequency = -np.pi * length / n_fft - gamma / (hop * n_fft) * across_frames
    phase = np.zeros_like(log)
    waiting = {tuple(i) for i in np.argwhere(magnitude > TOLERANCE * magnitude.max())}
    while waiting:
        start = max(waiting, key=lambda i: log[i])
        waiting.remove(start)
        heap = [(-log[start], start)]
        while heap:
            _, (t, f) = heapq.heappop(heap)
            for dt, df in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                there = t + dt, f + df
                if there in waiting:
                    slope = in_time if dt else in_frequency
                    phase[there] = phase[t, f] + (dt + df) * (slope[t, f] + slope[there]) / 2
                    waiting.remove(there)
                    heapq.heappush(heap, (-log[there], there))
    return phase


def inconsistency(magnitude: NDArray[np.float32], phase: NDArray[np.floating]) -> float:
    """Spectral convergence of the wave that magnitudes with this phase overlap to."""
    frames = Frames(*SHAPE)
    polar = torch.polar(torch.from_numpy(magnitude), torch.from_numpy(phase.astype(np.float32)))
    buffer = frames.overlap_add(polar)
    buffer /= frames.envelope(len(magnitude)).clamp_min(1e-2)
    rebuilt = frames.transform(buffer, slice(0, len(magnitude))).abs().numpy()
    return float(np.linalg.norm(rebuilt - magnitude) / np.linalg.norm(magnitude))


def noise_like(magnitude: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(magnitude.shape, np.float32) * np.float32(2 * np.pi)


def test_as_good_as_the_paper_read_plainly(voice: Voice) -> None:
    magnitude = np.abs(spectrum_of(voice(8000, 0.8)))
    ours = noise_like(magnitude)
    random = inconsistency(magnitude, ours)
    integrate_phase(magnitude, ours, Frames(*SHAPE))
    plain = inconsistency(magnitude, plain_pghi(magnitude))
    assert inconsistency(magnitude, ours) < 1.1 * plain
    assert plain < 0.4 * random


def test_a_steady_tone_turns_at_its_own_frequency() -> None:
    frequency = 0.137  # cycles per sample, between two bins
    spectrum = spectrum_of(np.cos(2 * np.pi * frequency * np.arange(6000)))
    magnitude = np.abs(spectrum)
    phase = noise_like(magnitude)
    integrate_phase(magnitude, phase, Frames(*SHAPE))
    peak = round(frequency * 512)
    turns = np.diff(np.unwrap(phase[:, peak].astype(np.float64))) / (2 * np.pi)
    difference = turns - frequency * 100
    assert np.abs(difference - np.round(difference)).max() < 0.02
    # The bins under the peak agree with each other as they truly do.
    near = slice(peak - 1, peak + 2)
    error = np.exp(1j * (phase[:, near] - np.angle(spectrum[:, near])))
    assert np.abs((error / error[:, 1:2]).mean()) > 0.97


def test_a_clicks_place_in_the_frame_is_the_slope_across_bins() -> None:
    wave = np.zeros(1200)
    wave[633] = 1.0
    spectrum = spectrum_of(wave)
    magnitude = np.abs(spectrum)
    phase = np.zeros_like(magnitude)
    integrate_phase(magnitude, phase, Frames(*SHAPE))
    slope = np.diff(phase[4]).mean()
    assert slope == pytest.approx(-2 * np.pi * 233 / 512, abs=0.05)  # its centre would be 200


def test_quiet_bins_keep_their_noise() -> None:
    magnitude = np.full((6, 257), 1e-5, np.float32)
    magnitude[2:4, 40:60] = 1.0
    phase = noise_like(magnitude)
    before = phase.copy()
    integrate_phase(magnitude, phase, Frames(*SHAPE))
    loud = magnitude == 1.0
    np.testing.assert_array_equal(phase[~loud], before[~loud])
    assert (phase[loud] != before[loud]).all()


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_silence_and_few_frames(frames: int) -> None:
    for magnitude in (np.zeros((frames, 257), np.float32), np.ones((frames, 257), np.float32)):
        phase = noise_like(magnitude)
        integrate_phase(magnitude, phase, Frames(*SHAPE))
        assert np.isfinite(phase).all()


def test_compiles_without_a_folder_for_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    real, cached = numba.njit, []

    def without_a_folder(function: object = None, cache: bool = False) -> object:
        cached.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(function)

    monkeypatch.setattr(numba, "njit", without_a_folder)
    assert callable(phase.compiled.__wrapped__(phase._spread))
    assert cached == [True, False]
