"""Windows and segments cover a recording once, whatever the size of its blocks."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tacoskip.recognition.long_audio import (
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    WINDOW_SECONDS,
    Segmenter,
    windows,
)

RATE, FRAME = 100, 5


def blocks(wave: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(wave), size):
        yield wave[start : start + size]


@pytest.mark.parametrize("seconds", [0.03, 7.0, 16.0, 20.0, 34.0, 60.01, 123.4])
@pytest.mark.parametrize("size", [7, 1000, 100_000])
def test_counted_frames_cover_the_recording_once(seconds: float, size: int) -> None:
    wave = np.arange(max(1, round(seconds * RATE)), dtype=np.float32)
    kept = []
    for window in windows(blocks(wave, size), RATE, FRAME):
        frames = window.wave[::FRAME]  # an encoder frame stands at each of these samples
        kept.append(frames[window.keep : window.end])
        assert len(window.wave) <= WINDOW_SECONDS * RATE
    np.testing.assert_array_equal(np.concatenate(kept), wave[::FRAME])


def test_counted_frames_have_context() -> None:
    wave = np.arange(100 * RATE, dtype=np.float32)
    found = list(windows(blocks(wave, 50), RATE, FRAME))
    assert all(window.keep * FRAME >= 2 * RATE for window in found[1:])
    assert all(len(w.wave) - (w.end or 0) * FRAME >= 2 * RATE for w in found[:-1])


def speech(quiet: list[tuple[int, int]], length: int) -> torch.Tensor:
    """Posteriors (L, 3) of letter 2 throughout, of blank where it is quiet."""
    posteriors = torch.tensor([0.0, 0.0, 9.0]).repeat(length, 1)
    for start, end in quiet:
        posteriors[start:end] = torch.tensor([9.0, 0.0, 0.0])
    return posteriors


def test_segments_end_in_the_longest_pause() -> None:
    quiet = [(100, 104), (150, 162), (300, 330)]
    whole = speech(quiet, 600)
    segmenter = Segmenter(frame_seconds=0.1, silent=[0, 1], n_tokens=3)
    found = []
    for start in range(0, 600, 37):
        found += list(segmenter.push(whole[start : start + 37]))
    found += list(segmenter.flush())
    assert found[0][0] == 0 and 150 < len(found[0][1]) < 162
    assert torch.equal(torch.cat([rows for _, rows in found]), whole)
    begins = np.cumsum([0, *(len(rows) for _, rows in found)])
    assert [first for first, _ in found] == begins[:-1].tolist()
    lengths = [len(rows) / 10 for _, rows in found[:-1]]
    assert min(lengths) >= SHORTEST_SECONDS and max(lengths) <= LONGEST_SECONDS
