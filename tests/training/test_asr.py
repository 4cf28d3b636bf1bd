"""Training a recognizer on a tiny corpus: what it leaves, resuming, clips too short, learning."""

import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tacoskip.config import Config, load_config
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepare import prepare
from tacoskip.data.settings import AugmentSettings
from tacoskip.loading import load, load_recognizer, load_voice
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.run_folder import RunError, checkpoints, load_checkpoint
from tacoskip.training import Progress, train

from .conftest import Prepared, train_until


@pytest.fixture
def settings(prepared: Prepared) -> Config:
    return prepared("smoke_asr")


@pytest.mark.usefixtures("pictures")
def test_run_folder_has_every_promised_file(settings: Config) -> None:
    seen: list[Progress] = []
    settings.train.log_every = 1
    summary = train(settings, seen.append)
    assert set(summary["best"]) == {"loss", "cer", "wer"}
    run = Path(settings.run)
    assert {"config.yaml", "environment.json", "checkpoints"} <= {p.name for p in run.iterdir()}
    assert [p.step for p in seen if p.scalars] == [1, 2, 3, 4]
    events = EventAccumulator(str(run), size_guidance={"images": 0, "tensors": 0}).Reload()
    tags = events.Tags()
    assert {"train/ctc_loss", "train/blank", "validation/cer", "validation/wer"} <= set(
        tags["scalars"]
    )
    assert "validation/mel_and_ctc_peaks" in tags["images"]
    (table,) = events.Tensors("validation/transcripts/text_summary")[:1]
    assert b"| reference | transcript |" in table.tensor_proto.string_val[0]
    recognizer = load(run)
    assert isinstance(recognizer, SpeechRecognizer)
    assert isinstance(recognizer.transcribe(torch.randn(8000).numpy()).text, str)
    assert load_recognizer(run).sample_rate == 8000
    with pytest.raises(RunError, match="expected a voice, got a recognizer"):
        load_voice(run)


def test_resume_matches_uninterrupted_run(settings: Config, tmp_path: Path) -> None:
    """Augmented clips, SpecAugment and dropout included."""
    weights = {}
    settings.train.max_steps, settings.train.log_every = 4, 1
    for name in ("whole", "resumed"):
        settings.run = str(tmp_path / name)
        if name == "resumed":
            train_until(settings, 2)
        train(settings)
        newest = checkpoints(Path(settings.run))[-1]
        weights[name] = load_checkpoint(newest).training["weights"]
    torch.testing.assert_close(weights["whole"], weights["resumed"], atol=0, rtol=0)


def test_subwords_travel_with_the_checkpoint(settings: Config) -> None:
    settings.asr.tokens, settings.asr.bpe_size, settings.train.max_steps = "bpe", 32, 2
    train(settings)
    recognizer = load_recognizer(settings.run)
    assert len(recognizer.vocabulary) == 32 == recognizer.model.output.out_features
    assert isinstance(recognizer.transcribe(torch.randn(8000).numpy()).text, str)
    newest = checkpoints(Path(settings.run))[-1]
    damaged = torch.load(newest, weights_only=True) | {"vocabulary": "rubbish"}
    torch.save(damaged, newest.with_name("other.pt"))
    with pytest.raises(RunError, match=r"other.pt: damaged \(expected a subword model"):
        load_recognizer(newest.with_name("other.pt"))
    settings.asr.bpe_size = 31
    with pytest.raises(RunError, match="made with other speakers or symbols"):
        train(settings)
    settings.asr.bpe_size = 5000
    with pytest.raises(CorpusError, match=r"expected asr\.bpe_size of at most"):
        train(settings)


def test_clips_too_short_for_their_text_are_named_before_training(
    settings: Config, tiny_corpus: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(tiny_corpus, corpus)
    table = corpus / "metadata.csv"
    lines = table.read_text().splitlines()
    name, text, _ = lines[3].split("|")  # 80 ms a letter, now 20 ms: as long as a frame
    lines[3] = "|".join([name, *[" ".join([text] * 4)] * 2])
    table.write_text("\n".join(lines) + "\n")
    settings.data.root, settings.data.dir = str(corpus), str(tmp_path / "prepared")
    settings.data.validation = settings.data.test = 1
    settings.train.max_steps = 1
    prepare(settings)
    seen: list[Progress] = []
    train(settings, seen.append)
    (line,) = [p for p in seen if "too short" in p.message]
    assert line.step == 0 and line.warning
    assert line.message.startswith(
        "1 clip is too short for its text at asr.subsampling=2: clip03 ("
    )
    settings.asr.subsampling, settings.run = 32, str(tmp_path / "other")
    with pytest.raises(CorpusError, match="clips are too short for their text"):
        train(settings)


def test_loss_falls_on_one_batch(settings: Config) -> None:
    """The clips differ in pitch and rhythm, so their texts can be told apart."""
    seen: list[dict[str, float]] = []
    settings.train.max_steps, settings.train.evaluate_every, settings.train.log_every = 60, 60, 1
    settings.train.learning_rate = 1e-2
    settings.data.batch_seconds, settings.data.max_batch = 30, 32
    settings.augment = AugmentSettings()
    asr, cbhg = settings.asr, settings.cbhg
    asr.dropout, asr.time_masks, asr.frequency_masks = 0.0, 0, 0
    asr.channels = cbhg.channels = cbhg.gru_channels = 48
    cbhg.bank_channels = cbhg.projection_channels = 48
    train(settings, lambda p: seen.append(p.scalars) if p.scalars else None)
    # Letter frequencies alone give about 2.5.
    assert seen[0]["ctc_loss"] > 5 and seen[-1]["ctc_loss"] < 1.25


def test_judge_selects_the_best_voice_without_changing_training(
    settings: Config, tiny_corpus: Path, tmp_path: Path
) -> None:
    settings.train.max_steps = 1
    train(settings)
    weights = []
    for judged in ([], [f"train.judge={settings.run}", "train.select=cer_by_asr"]):
        voice = load_config(
            "smoke",
            [
                *(f"data.root={tiny_corpus}", f"data.dir={settings.data.dir}", *judged),
                *(f"run={tmp_path / f'voice{len(judged)}'}", "train.device=cpu"),
                *("train.max_steps=2", "train.evaluate_every=1", "train.sentences=[]"),
                *("data.validation=3", "data.test=2"),
            ],
        )
        best = train(voice)["best"]
        weights.append(load_checkpoint(checkpoints(Path(voice.run))[-1]).training["weights"])
    assert best["cer_by_asr"] >= 0
    torch.testing.assert_close(weights[0], weights[1], atol=0, rtol=0)


def test_missing_judge_is_named_with_its_setting(settings: Config, tiny_corpus: Path) -> None:
    corpus = [f"data.root={tiny_corpus}", f"data.dir={settings.data.dir}"]
    with pytest.raises(RunError, match=r"train\.judge: no run folder or checkpoint 'nothere'"):
        train(load_config("smoke", [*corpus, "train.judge=nothere", "train.device=cpu"]))
