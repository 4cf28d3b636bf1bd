"""Strings of clips: who is joined to whom, what is between them, and that it can be repeated."""

from collections import Counter

import numpy as np
import pytest

from tacoskip.data.clip import Clip, join_waves, joined_clips


def clip(n: int, speaker: str, seconds: float = 0.5) -> Clip:
    return Clip(f"c{n}", f"c{n}.flac", speaker, f"word{n}", f"word{n}", round(seconds * 8000), 8000)


CLIPS = [clip(n, f"s{n % 3}", 0.3 + 0.01 * (n % 20)) for n in range(200)]


def describe(strings: list[object]) -> list[tuple[str, list[tuple[float, str]]]]:
    return [(string.id, [(offset, part.id) for offset, part in string.parts]) for string in strings]


def test_an_epoch_of_strings():
    strings = joined_clips(CLIPS, 2, 5, 20.0, seed=1, epoch=0)
    sizes = Counter(len(string.parts) for string in strings)
    assert set(sizes) <= {2, 3, 4, 5} and len(sizes) == 4
    used = Counter(part.id for string in strings for _, part in string.parts)
    assert set(used) == {string.id for string in CLIPS}
    assert sum(used.values()) <= 200 + 3 * 1  # at most one clip twice for each speaker
    for string in strings:
        clips = string.parts
        assert len({part.speaker for _, part in clips}) == 1
        assert string.normalized == " ".join(part.normalized for _, part in clips)
        ends = [offset + part.duration for offset, part in clips]
        pauses = [b[0] - a for a, b in zip(ends, clips[1:], strict=False)]
        assert all(-1e-6 <= pause <= 0.12 for pause in pauses)
        assert string.duration == pytest.approx(ends[-1])
    assert len({string.id for string in strings}) == len(strings)


def test_the_same_seed_and_epoch_give_the_same_strings():
    first = describe(joined_clips(CLIPS, 1, 4, 20.0, seed=5, epoch=2))
    assert first == describe(joined_clips(CLIPS, 1, 4, 20.0, seed=5, epoch=2))
    assert first != describe(joined_clips(CLIPS, 1, 4, 20.0, seed=5, epoch=3))
    assert first != describe(joined_clips(CLIPS, 1, 4, 20.0, seed=6, epoch=2))


def test_no_string_is_too_long():
    long = [clip(n, "a", 3.0) for n in range(30)]
    strings = joined_clips(long, 5, 5, 10.0, seed=0, epoch=0)
    assert max(string.duration for string in strings) <= 10.0
    assert {part.id for string in strings for _, part in string.parts} == {c.id for c in long}


def test_join_of_one_keeps_the_clips():
    assert joined_clips(CLIPS, 1, 1, 20.0, seed=0, epoch=0) == CLIPS


def test_waves_are_joined_over_faint_noise():
    first, second = np.full(800, 0.5, np.float32), np.full(400, -0.25, np.float32)
    wave = join_waves([(0.0, first), (0.15, second)], 8000, "x")
    assert wave.dtype == np.float32 and len(wave) == 1600
    np.testing.assert_array_equal(wave[:800], first)
    np.testing.assert_array_equal(wave[1200:], second)
    pause = wave[800:1200]
    assert 20 * np.log10(np.sqrt(np.mean(pause**2))) == pytest.approx(-80, abs=1)
    np.testing.assert_array_equal(wave, join_waves([(0.0, first), (0.15, second)], 8000, "x"))
    assert not np.array_equal(wave, join_waves([(0.0, first), (0.15, second)], 8000, "y"))
