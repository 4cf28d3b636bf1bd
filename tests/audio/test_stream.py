from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacoskip.audio import (
    AudioSettings,
    FrontEnd,
    GriffinLimSettings,
    GriffinLimStream,
    read_audio,
)
from tacoskip.audio.inversion import invert, project
from tacoskip.audio.stream import LOOKAHEAD

pytestmark = pytest.mark.usefixtures("both_ways")

Voice = Callable[..., NDArray[np.float32]]
AUDIO = AudioSettings(sample_rate=8000, n_mels=60)
PLAIN = GriffinLimSettings(sharpening=1.0)


def streamed(stream: GriffinLimStream, linear: Tensor, size: int) -> list[NDArray[np.float32]]:
    return [stream.push(chunk) for chunk in linear.split(size)] + [stream.flush()]


def convergence(front_end: FrontEnd, wave: NDArray[np.float32] | Tensor, linear: Tensor) -> float:
    rebuilt = front_end.magnitudes(torch.as_tensor(wave))
    return float((rebuilt - 10**linear).norm() / (10**linear).norm())


@pytest.mark.parametrize(("size", "factor"), [(1, 2.0), (8, 1.5), (40, 1.15), (1000, 1.05)])
def test_as_near_to_the_magnitudes_as_all_at_once(voice: Voice, size: int, factor: float) -> None:
    front_end = FrontEnd(AUDIO)
    linear, _ = front_end.features(voice(8000, 2.0))
    (whole,) = front_end.to_wave(linear[None], settings=PLAIN)
    pieces = np.concatenate(streamed(GriffinLimStream(AUDIO, PLAIN), linear, size))
    assert pieces.shape == whole.shape and pieces.dtype == np.float32
    bound = factor * convergence(front_end, whole, linear)
    assert convergence(front_end, pieces, linear) < bound


def test_as_near_on_recordings(recording: Path) -> None:
    wave, rate = read_audio(recording)
    audio = AudioSettings(sample_rate=rate, n_mels=60)
    front_end = FrontEnd(audio)
    linear, _ = front_end.features(wave)
    (whole,) = front_end.to_wave(linear[None], settings=PLAIN)
    pieces = np.concatenate(streamed(GriffinLimStream(audio, PLAIN), linear, 40))
    assert pieces.shape == whole.shape
    assert convergence(front_end, pieces, linear) < 1.2 * convergence(front_end, whole, linear)


@pytest.mark.parametrize("phase", ["pghi", "random", "zero"])
def test_joins_do_not_click(phase: str) -> None:
    """On a steady tone a click at a join would bend the wave more than anything else does."""
    front_end = FrontEnd(AUDIO)
    linear, _ = front_end.features(0.3 * torch.sin(torch.arange(16000) * 0.21))
    settings = GriffinLimSettings(sharpening=1.0, phase=phase)
    pieces = streamed(GriffinLimStream(AUDIO, settings), linear, 10)
    joins = np.cumsum([len(piece) for piece in pieces])
    wave = np.concatenate(pieces)
    bend = np.abs(np.diff(wave, n=2))
    at_join = np.zeros(len(bend), bool)
    for join in joins:
        at_join[max(0, join - 3) : join + 1] = True
    inner = slice(800, -800)
    assert at_join[inner].sum() > 40
    assert bend[inner][at_join[inner]].max() < 1.05 * bend[inner][~at_join[inner]].max()


def test_samples_wait_for_the_lookahead_only(voice: Voice) -> None:
    linear, _ = FrontEnd(AUDIO).features(voice(8000, 1.0))
    stream = GriffinLimStream(AUDIO)
    given = 0
    for count, frame in enumerate(linear, 1):
        given += len(stream.push(frame[None]))
        assert given == max(0, (count - LOOKAHEAD) * 100 - 200)  # half a window
    assert given + len(stream.flush()) == (len(linear) - 1) * 100


def test_an_utterance_shorter_than_the_lookahead_is_all_at_once(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settling a frame takes one more step without momentum, so plain steps can be counted."""
    front_end = FrontEnd(AUDIO)
    linear, _ = front_end.features(voice(8000, (LOOKAHEAD - 1) * 0.0125))
    assert len(linear) == LOOKAHEAD
    monkeypatch.setattr("tacoskip.audio.stream.project", partial(project, momentum=0.0))
    monkeypatch.setattr("tacoskip.audio.features.invert", partial(invert, momentum=0.0))
    few, more = (GriffinLimSettings(n, phase="zero") for n in (4, 5))
    pieces = np.concatenate(streamed(GriffinLimStream(AUDIO, few), linear, 2))
    (whole,) = front_end.to_wave(linear[None], settings=more)
    np.testing.assert_allclose(pieces, whole, atol=1e-4)


def test_the_same_seed_and_chunks_give_the_same_bytes(voice: Voice) -> None:
    linear, _ = FrontEnd(AUDIO).features(voice(8000, 0.5))
    stream = GriffinLimStream(AUDIO, seed=3)
    first = b"".join(piece.tobytes() for piece in streamed(stream, linear, 7))
    again = b"".join(piece.tobytes() for piece in streamed(stream, linear, 7))
    other = b"".join(
        piece.tobytes() for piece in streamed(GriffinLimStream(AUDIO, seed=4), linear, 7)
    )
    assert first == again  # and `flush` began anew
    assert first != other


@pytest.mark.parametrize("frames", [0, 1, 2, 9])
def test_short_utterances(frames: int) -> None:
    linear = torch.full((frames, 257), -1.0)
    stream = GriffinLimStream(AUDIO)
    wave = np.concatenate([stream.push(linear), stream.flush()])
    assert len(wave) == max(0, frames - 1) * 100 and np.isfinite(wave).all()


def test_nothing_pushed_changes_nothing(voice: Voice) -> None:
    linear, _ = FrontEnd(AUDIO).features(voice(8000, 0.3))
    plain = np.concatenate(streamed(GriffinLimStream(AUDIO), linear, 8))
    stream = GriffinLimStream(AUDIO)
    pieces = []
    for chunk in linear.split(8):
        pieces += [stream.push(linear[:0]), stream.push(chunk)]
    np.testing.assert_array_equal(np.concatenate([*pieces, stream.flush()]), plain)


def test_what_does_not_fit_is_named() -> None:
    stream = GriffinLimStream(AUDIO)
    with pytest.raises(ValueError, match=r"\(T, 257\), got \(1, 5, 257\)"):
        stream.push(torch.zeros(1, 5, 257))
    with pytest.raises(ValueError, match="finite"):
        stream.push(torch.full((5, 257), torch.nan))
    assert len(stream.flush()) == 0
