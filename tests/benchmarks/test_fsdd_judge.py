"""The FSDD judge: its arithmetic, its nets on tones, its commands on a voice that is a parrot."""

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tacoskip.audio import AudioSettings, FrontEnd, GriffinLimSettings, write_audio

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RATE = 8000


@pytest.fixture(scope="module")
def bench() -> Any:
    """The command, with its two neighbours importable as they are when it is run as a script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("fsdd_judge")


def tone(digit: int, seconds: float = 0.15) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return np.asarray(0.3 * np.sin(2 * np.pi * 250 * 1.35**digit * time), dtype=np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten "digits" that are tones 5 semitones apart, two speakers, takes 4 and 5."""
    root = tmp_path_factory.mktemp("fsdd")
    for digit in range(10):
        for speaker in ("ann", "bob"):
            for take in (4, 5):
                write_audio(root / f"{digit}_{speaker}_{take}.wav", tone(digit), RATE)
    return root


@dataclass
class Parrot:
    """A voice that says words as tones, `wrong` digits as nine, and sticks in long texts."""

    bench: Any
    wrong: tuple[int, ...] = ()
    speakers: list[str] = field(default_factory=lambda: ["ann", "bob"])
    sample_rate: int = RATE

    def __post_init__(self) -> None:
        self.front_end = FrontEnd(AudioSettings(sample_rate=RATE, n_mels=40))
        self.config = SimpleNamespace(griffin_lim=GriffinLimSettings(iterations=2))

    def synthesize(self, texts: list[str], speaker: str, seed: int) -> list[Any]:
        spoken = []
        for text in texts:
            digits = [self.bench.WORDS.index(word) for word in text.split()]
            digits = [9 if digit in self.wrong else digit for digit in digits]
            steps = 10 * len(digits)
            spoken.append(
                SimpleNamespace(
                    text=text,
                    wave=np.concatenate([tone(digit) for digit in digits]),
                    seconds=0.15 * len(digits),
                    alignment=np.eye(steps)[: steps if len(digits) < 7 else steps // 2],
                    stopped=len(digits) < 7,
                )
            )
        return spoken


class Tuner:
    """A judge that knows the tones: the strongest frequency of every 0.15 s."""

    def string(self, wave: np.ndarray, rate: int) -> list[int]:
        found = []
        for start in range(0, len(wave), int(0.15 * rate)):
            part = np.abs(np.fft.rfft(wave[start : start + int(0.15 * rate)], rate))
            found.append(round(float(np.log(part.argmax() / 250) / np.log(1.35))))
        return found

    def digit(self, wave: np.ndarray, rate: int) -> int:
        return self.string(wave, rate)[0]


def test_interval_is_wilsons(bench: Any) -> None:
    """Its ends are the true shares from which the one seen is 1.96 standard errors away."""
    for end in bench.interval(178, 180):
        assert abs(178 / 180 - end) == pytest.approx(1.96 * np.sqrt(end * (1 - end) / 180))
    assert bench.interval(60, 60) == pytest.approx([0.9398, 1], abs=1e-4)


def test_a_ctc_path_keeps_a_repeated_digit_only_across_a_blank() -> None:
    model = importlib.import_module("fsdd_judge_model")
    assert model.collapse([10, 3, 3, 10, 3, 7, 7, 10, 10, 7]) == [3, 3, 7, 7]


def test_takes_are_split_as_the_corpus_says(bench: Any, corpus: Path, tmp_path: Path) -> None:
    train, held_out = bench.read_clips(corpus)
    assert {clip.take for clip in train} == {5} and len(train) == 20
    assert {clip.take for clip in held_out} == {4} and len(held_out) == 20
    with pytest.raises(ValueError, match=r"expected files like 7_jackson_32\.wav"):
        bench.read_clips(tmp_path)


def test_the_score_of_a_voice_counts_its_slips(bench: Any) -> None:
    found = bench.score_voice(Tuner(), Parrot(bench, wrong=(4,)), seeds=2, strings=30, seed=0)
    single, strings = found["single"], found["strings"]
    assert single["n"] == 40 and single["accuracy"] == pytest.approx(0.9)
    assert single["confusions"] == ["four heard as nine (ann) x2", "four heard as nine (bob) x2"]
    fours = sum("4" in line.split()[1] for line in strings["misheard"])
    assert len(strings["misheard"]) == fours > 0 and 0.85 < strings["accuracy"] < 0.95
    assert strings["stopped"] == strings["clean_alignment"] < 1
    assert all("speech stopped early at symbol" in line for line in strings["warnings"])


def test_the_commands_train_save_and_judge(
    bench: Any, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = ["train", "--root", str(corpus), "--out", str(tmp_path), "--strings", "3"]
    assert (
        bench.main([*words, "--classifier-steps", "30", "--recognizer-steps", "2", "--json"]) == 0
    )
    facts = json.loads(capsys.readouterr().out)
    assert facts["real"]["single"]["accuracy"] > 0.9  # tones are easy: chance is 0.1

    monkeypatch.setattr(bench, "load", lambda run: Parrot(bench))
    words = ["judge", "runs/x", "--root", str(corpus), "--judge", str(tmp_path), "--strings", "2"]
    assert bench.main([*words, "--seeds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["voice"]["single"]["accuracy"] > 0.9
    assert found["real"]["single"] == facts["real"]["single"]  # the judge is the same once reloaded

    assert bench.main(words) == 0
    assert "copy_synthesis" in capsys.readouterr().out


def test_a_judge_that_is_not_there_is_named(bench: Any, tmp_path: Path, capsys: Any) -> None:
    words = ["judge", "runs/x", "--root", str(tmp_path), "--judge", str(tmp_path)]
    assert bench.main(words) == 2
    assert "fsdd_judge: expected a judge in" in capsys.readouterr().err
