"""Evaluation of voices that play recordings back with a known error."""

import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tacoskip.audio import AudioSettings, FrontEnd, read_audio, write_audio
from tacoskip.config import Config, load_config
from tacoskip.data.prepare import prepare
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.data.settings import DataSettings
from tacoskip.evaluation import voices as module
from tacoskip.evaluation.judges import load_judge, load_mos
from tacoskip.evaluation.voices import FIGURES, RUNGS, evaluate, tables
from tacoskip.run_folder import build_tacotron
from tacoskip.synthesis.speech import Speech
from tacoskip.synthesis.voice import Voice
from tacoskip.text import Tokenizer

RATE = 8000


def buzz(text: str, f0: float) -> np.ndarray:
    time = np.arange(int(RATE * 0.08 * len(text))) / RATE
    harmonics = np.arange(1, 12)[:, None]
    tones = (np.sin(2 * np.pi * f0 * harmonics * time) / harmonics).sum(axis=0)
    # A vowel that opens and closes, so that frames differ and can be aligned.
    return np.asarray(0.1 * tones * (1 + np.sin(2 * np.pi * 4 * time)), dtype=np.float32)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Settings of a prepared corpus: two speakers, twelve clips, six of them the test split."""
    root = tmp_path_factory.mktemp("corpus")
    lines = ["path,text,speaker"]
    for number, word in enumerate(
        "bark cedar elm fir hazel ivy larch maple oak pine rowan yew".split()
    ):
        text, speaker = f"{word} {word}s here", ("ann", "bob")[number % 2]
        write_audio(root / f"{word}.wav", buzz(text, 110 + 60 * (number % 2)), RATE)
        lines.append(f"{word}.wav,{text},{speaker}")
    (root / "clips.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = DataSettings("folder", str(root), str(root / "prepared"), validation=2, test=6)
    config = Config(audio=AudioSettings(sample_rate=RATE, n_mels=40), data=data)
    prepare(config, jobs=1)
    return config


class Playback:
    """Plays the recording back: `cents` higher, or stuck half-way through its attention."""

    def __init__(self, config: Config, cents: float = 0, stuck: bool = False) -> None:
        self.config, self.cents, self.stuck = config, cents, stuck
        self.speakers, self.sample_rate = ["ann", "bob"], RATE
        self.front_end = FrontEnd(config.audio)
        corpus = PreparedCorpus(config.data.dir)
        clips = [*corpus.train, *corpus.validation, *corpus.test]
        self.paths = {clip.normalized: clip.source for clip in clips}

    def synthesize(self, text: str, speaker: str, seed: int) -> Speech:
        wave, _ = read_audio(self.paths[text])
        places = np.arange(0, len(wave) - 1, 2 ** (self.cents / 1200))
        if self.cents:
            wave = np.interp(places, np.arange(len(wave)), wave).astype(np.float32)
        alignment = np.eye(20, dtype=np.float32)
        if self.stuck:
            alignment[10:] = alignment[9]
        warnings = ["attention stuck at symbol 10 of 20"] if self.stuck else []
        mel = np.zeros((1, 40))
        return Speech(text, wave, RATE, mel, [alignment], not self.stuck, warnings=warnings)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "best.pt").touch()
    return tmp_path / "run"


def evaluate_with(
    run: Path, voice: Playback | Voice, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> dict[str, Any]:
    monkeypatch.setattr(module, "load_voice", lambda checkpoint, device: voice)
    return evaluate(run, **options)


def test_recording_itself_has_perfect_figures(
    run: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluate_with(run, Playback(config), monkeypatch)
    for name, perfect in (
        ("mcd_db", 0),
        ("f0_rmse_cents", 0),
        ("alignment", 1),
        ("stop_failures", 0),
    ):
        assert found[name] == {"mean": perfect, "low": perfect, "high": perfect, "n": 6}
    assert 0 < found["rtf"]["mean"] < 1 and found["warnings"] == []
    assert found["checkpoint"] == "best.pt"


def test_higher_voice_has_the_distance_in_cents(
    run: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluate_with(run, Playback(config, cents=100), monkeypatch)
    assert found["f0_rmse_cents"]["mean"] == pytest.approx(100, abs=15)
    assert found["mcd_db"]["low"] > 0
    assert set(found["speakers"]) == {"ann", "bob"}
    each = [found["speakers"][name] for name in ("ann", "bob")]
    pooled = sum(one["n"] * one["mcd_db"] for one in each) / 6
    assert pooled == pytest.approx(found["mcd_db"]["mean"])


def test_stuck_speech_is_counted_and_named(
    run: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluate_with(run, Playback(config, stuck=True), monkeypatch)
    assert found["stop_failures"]["mean"] == 1 and found["alignment"]["mean"] == pytest.approx(0.5)
    assert len(found["warnings"]) == 6
    assert found["warnings"][0]["warnings"] == ["attention stuck at symbol 10 of 20"]


def test_silence_leaves_f0_unmeasured(
    run: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = Playback(config)
    nothing = Speech("", np.zeros(0, np.float32), RATE, np.zeros((0, 40)), [np.eye(9)], False)
    monkeypatch.setattr(voice, "synthesize", lambda text, speaker, seed: nothing)
    found = evaluate_with(run, voice, monkeypatch, limit=2)
    assert found["f0_rmse_cents"]["n"] == 0 and math.isnan(found["f0_rmse_cents"]["mean"])
    assert found["mcd_db"]["n"] == 2
    saved = json.loads((run / "metrics.json").read_text())
    assert saved["test"]["f0_rmse_cents"] == {"mean": None, "low": None, "high": None, "n": 0}


def test_metrics_json_keeps_the_other_splits(
    run: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "metrics.json").write_text("half a fi")  # a crash of some other writer
    reports: list[tuple[float, str]] = []
    voice = Playback(config)
    evaluate_with(
        run, voice, monkeypatch, progress=lambda share, note: reports.append((share, note))
    )
    evaluate_with(run, voice, monkeypatch, split="validation")
    saved = json.loads((run / "metrics.json").read_text())
    assert (saved["test"]["mcd_db"]["n"], saved["validation"]["mcd_db"]["n"]) == (6, 2)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "metrics.json"]
    assert [share for share, _ in reports] == pytest.approx([*np.arange(6) / 6, 1])


def test_wrong_requests_are_refused(
    run: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="unknown split 'tset'; did you mean 'test'"):
        evaluate_with(run, Playback(config), monkeypatch, split="tset")
    with pytest.raises(ValueError, match="no run folder or checkpoint"):
        evaluate(run / "absent")
    stranger = Playback(config)
    stranger.speakers = ["cat", "dog"]
    with pytest.raises(ValueError, match=r"by a speaker of cat, dog, got '(ann|bob)'"):
        evaluate_with(run, stranger, monkeypatch)
    assert not (run / "metrics.json").exists()


def test_table_has_a_row_for_each_figure() -> None:
    value = {"mean": 5.123456, "low": 5.0, "high": 5.25, "n": 40}
    ((_, rows),) = tables(dict.fromkeys(FIGURES, value))
    assert rows[0] == ["mcd_db", "5.123", "5 to 5.25", "40"]
    assert [row[0] for row in rows] == list(FIGURES)


@pytest.fixture
def untrained(config: Config) -> Voice:
    torch.manual_seed(0)
    small = replace(load_config("smoke"), audio=config.audio, data=config.data)
    model = build_tacotron(small, len(Tokenizer(small.text)), 2).eval()
    return Voice(model, small, ["ann", "bob"], frames_per_symbol=4.0)


def test_judge_transcribes_every_rung(
    run: Path, untrained: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = list[int]()

    def judge(wave: np.ndarray, rate: int) -> str:
        assert rate == RATE and wave.dtype == np.float32
        lengths.append(len(wave))
        return ["elm elms here", "elm here", "elm", ""][(len(lengths) - 1) % 4]

    monkeypatch.setattr(module, "load_judge", lambda name, device: judge)
    monkeypatch.setattr(module, "plain_words", lambda text, normalized: "elm elms here")
    found = evaluate_with(run, untrained, monkeypatch, limit=2, judge="whisper")
    assert list(found["ladder"]) == list(RUNGS)
    means = [rung["wer"]["mean"] for rung in found["ladder"].values()]
    assert means == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert found["wer_by_asr"] == found["ladder"]["free-running"]["wer"]
    assert found["cer_by_asr"]["mean"] == 1 and found["judge"] == "whisper"
    assert found["transcripts"][0]["copy-synthesis"] == "elm here"
    recording, copy, forced = lengths[:3]
    assert abs(copy - recording) < 100 and copy == forced
    _, (_, ladder) = tables(found)
    assert ladder[1][:2] == ["copy-synthesis", "33.3%"]


def test_judge_may_be_a_recognizer_or_whisper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Whisper:
        def __init__(self, model: str, **options: str) -> None:
            if model == "huge":
                raise RuntimeError("Invalid model size\n'huge'")

        def transcribe(self, wave: np.ndarray, **options: object) -> tuple[list[Any], None]:
            return [SimpleNamespace(text=f" Number {len(wave) // 16000},")] * 2, None

    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=Whisper))
    second = np.ones(RATE, np.float32)
    assert load_judge("whisper:base")(second, RATE) == "number one number one"
    with pytest.raises(ValueError, match=r"whisper:huge cannot be loaded \(Invalid model size 'h"):
        load_judge("whisper:huge")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ValueError, match=r"pip install 'tacoskip\[judge\]'"):
        load_judge("whisper")
    with pytest.raises(ValueError, match="no run folder or checkpoint"):
        load_judge(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="unknown judge 'whisperr:base'; did you mean 'whisper'"):
        load_judge("whisperr:base")


def test_naturalness_is_predicted_for_speech_and_recordings(
    run: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Predictor(torch.nn.Module):
        def forward(self, wave: torch.Tensor) -> torch.Tensor:
            assert wave.shape[0] == 1
            return wave.shape[1] / torch.tensor([16000.0])

    monkeypatch.setitem(
        sys.modules, "distillmos", SimpleNamespace(ConvTransformerSQAModel=Predictor)
    )
    found = evaluate_with(run, Playback(config), monkeypatch, limit=2, mos=True)
    assert found["mos_by_model"] == found["mos_of_recordings"]
    assert found["mos_by_model"]["mean"] > 0.5
    assert [row[0] for row in tables(found)[0][1]][-2:] == ["mos_by_model", "mos_of_recordings"]
    monkeypatch.setitem(sys.modules, "distillmos", None)
    with pytest.raises(ValueError, match=r"--mos needs distillmos"):
        load_mos()


def test_whisper_transcribes_a_recording() -> None:
    pytest.importorskip(
        "faster_whisper", reason="no faster-whisper (pip install 'tacoskip[judge]')"
    )
    folder = os.environ.get("TACOSKIP_WHISPER", "")
    if not folder:
        pytest.skip("no model (TACOSKIP_WHISPER=FOLDER)")
    clip = next(Path("shared/data").rglob("*.wav"), None) or pytest.skip("no recordings")
    wave, rate = read_audio(clip)
    assert len(load_judge(f"whisper:{folder}", "cpu")(wave, rate).split()) >= 2
