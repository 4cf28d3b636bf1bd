"""Forced alignment finds the symbols that made-up spectra were built of."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tacoskip.data.durations import Models, symbol_durations
from tacoskip.data.errors import CorpusError
from tacoskip.text import Tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tacoskip"


WORDS = "sun moon star tree rain wind".split()


class Built:
    """Clips whose frames are a spectrum of each letter's own, and silence for spaces and ends."""

    def __init__(self, count: int) -> None:
        self.random = np.random.default_rng(0)
        self.tokenizer = Tokenizer()
        self.front_end = SimpleNamespace(settings="of spectra")
        self.spectra = self.random.normal(0, 1, (len(self.tokenizer), 20))
        self.clips = [self.clip(number) for number in range(count)]

    def clip(self, number: int) -> Any:
        text = " ".join(self.random.choice(WORDS, 4))
        ids = self.tokenizer.encode(text)
        silent = [not self.tokenizer.symbols[i].isalpha() for i in ids]
        lengths = [
            int(self.random.integers(0, 5) if quiet else self.random.integers(4, 12))
            for quiet in silent
        ]
        frames = [
            self.random.normal(0, 0.1, (length, 20)) + (-4 if quiet else self.spectra[i])
            for i, length, quiet in zip(ids, lengths, silent, strict=True)
        ]

        class Clip:
            id, speaker, normalized, span = f"clip {number}", "one", text, (number, 1, 1)
            mel = torch.from_numpy(np.concatenate(frames).astype(np.float32))
            truth = np.array(lengths)

        return Clip

    def features(self, clips: list[Any]) -> list[tuple[None, torch.Tensor]]:
        return [(None, clip.mel) for clip in clips]


def test_alignment_finds_the_boundaries() -> None:
    built = Built(60)
    found: Any = symbol_durations(built.clips, built, built.tokenizer)  # type: ignore[arg-type]
    errors = []
    for clip in built.clips:
        assert found[clip.id].sum() == len(clip.mel)
        errors += list(np.abs(np.cumsum(found[clip.id].numpy()) - np.cumsum(clip.truth)))
    assert np.median(errors) == 0 and np.mean(errors) < 1


def test_marks_last_no_frames_and_short_clips_are_divided_evenly() -> None:
    models = Models(["_", "~", "a", "\u02d0", " "])
    chain, owner = models.states([2, 3, 4, 2])
    assert chain.tolist() == [0, 7, 8, 9, 0, 7, 8, 9]
    assert owner.tolist() == [0, 0, 0, 0, 2, 3, 3, 3]
    assert models.durations(np.zeros((5, 26), np.float32), [2, 3, 4, 2]).tolist() == [1, 1, 1, 2]


def test_texts_longer_than_all_recordings_are_named() -> None:
    built = Built(2)
    for clip in built.clips:
        clip.mel = clip.mel[:3]
    with pytest.raises(CorpusError, match="expected clips longer than their texts"):
        symbol_durations(built.clips, built, built.tokenizer)  # type: ignore[arg-type]


def test_second_run_finds_the_durations_of_the_first(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def align(built: Built) -> dict[str, list[int]]:
        found = symbol_durations(built.clips, built, built.tokenizer)  # type: ignore[arg-type]
        return {id: frames.tolist() for id, frames in found.items()}

    built = Built(20)
    first = align(built)
    (kept,) = cache.glob("durations-*.npy")
    monkeypatch.setattr(Models, "fit", None)
    assert align(built) == first
    built.clips[0].span = (7, 7, 7)
    with pytest.raises(TypeError):  # another recording
        align(built)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))
    built.clips[0].span = (0, 1, 1)
    kept.write_bytes(kept.read_bytes()[:-9])
    assert align(built) == first
    assert len(np.load(kept)) == sum(map(len, first.values()))
