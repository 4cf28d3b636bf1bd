"""Features computed on the training device from samples equal those of the loader."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tacoskip.audio import FrontEnd
from tacoskip.config import Config
from tacoskip.data.batches import TrainBatches
from tacoskip.data.loading import Batch
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.data.settings import AugmentSettings
from tacoskip.run_folder import checkpoints, load_checkpoint
from tacoskip.text import TextSettings, Tokenizer
from tacoskip.training import train
from tacoskip.training.features import DeviceFeatures, device_features

from .conftest import Prepared

AUGMENT = AugmentSettings(speed=[0.9, 1.1], silence_seconds=0.1, noise_db=[5, 20], noise_share=1.0)


def batches(config: Config, linear: bool, augment: AugmentSettings | None) -> TrainBatches:
    corpus = PreparedCorpus.of(config)
    front_end, tokenizer = FrontEnd(config.audio), Tokenizer(TextSettings())
    common = config.data, front_end, tokenizer, corpus.speakers
    return TrainBatches(corpus.train, *common, linear=linear, augment=augment)


def both(
    config: Config, linear: bool = True, augment: AugmentSettings | None = None
) -> tuple[Batch, Batch, DeviceFeatures]:
    """The loader's longest batch of features, the same of samples, and what computes on these."""
    config.data.workers, config.data.batch_seconds, config.data.max_batch = 0, 60.0, 64
    expected = batches(config, linear, augment).longest()
    sending = batches(config, linear, augment)
    sending.loader.send_samples()
    features = DeviceFeatures(sending.loader.front_end, "cpu", linear)
    return expected, sending.longest(), features


@pytest.mark.parametrize("join", [[1, 1], [1, 3]])
@pytest.mark.parametrize("augment", [None, AUGMENT])
@pytest.mark.parametrize("linear", [True, False])
def test_features_of_samples_equal_the_loaders(
    prepared: Prepared, join: list[int], augment: AugmentSettings | None, linear: bool
) -> None:
    config = prepared("smoke")
    config.data.join = join
    expected, sent, features = both(config, linear, augment)
    assert len(set(expected.mel_lengths.tolist())) > 1  # padded
    assert sent.samples is not None and sent.mel.shape == (*expected.mel.shape[:2], 0)
    unchanged = join == [1, 1] and augment is None
    assert sent.samples.dtype == (torch.int16 if unchanged else torch.float32)
    found = features(sent)
    assert found.samples is None and found.ids == expected.ids
    torch.testing.assert_close(found.mel_lengths, expected.mel_lengths)
    torch.testing.assert_close(found.mel, expected.mel, atol=2e-5, rtol=0)
    torch.testing.assert_close(found.linear, expected.linear, atol=2e-5, rtol=0)


@pytest.mark.parametrize("recipe", ["smoke", "smoke_asr"])
def test_training_is_the_same(
    prepared: Prepared, tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, losses, messages = prepared(recipe), dict[str, list[float]](), list[str]()
    config.train.max_steps, config.train.log_every = 3, 1
    if recipe == "smoke":
        config.tts.attention = "durations"

    def note(progress: Any) -> None:
        messages.append(progress.message)
        if progress.scalars:
            losses.setdefault(config.run, []).append(progress.scalars["loss"])

    for name in ("0", "1"):
        monkeypatch.setenv("TACOSKIP_DEVICE_FEATURES", name)
        config.run = str(tmp_path / name)
        train(config, note)
    first, second = losses.values()
    assert len(first) == 3 and first == pytest.approx(second, rel=1e-4)
    assert messages.count("features: computed from samples on the device") == 1
    assert load_checkpoint(checkpoints(Path(config.run))[-1]).step == 3


def test_samples_are_kept_and_features_are_not(prepared: Prepared) -> None:
    config = prepared("smoke")
    config.data.workers = 0
    sending = batches(config, True, None)
    loader = sending.loader
    loader.features(list(sending.clips))
    assert device_features(loader.front_end, loader, torch.device("cpu"), print) is None
    assert all(isinstance(kept, tuple) for kept in loader._cache.values())
    loader.send_samples()
    next(sending)
    loader.features(list(sending.clips))
    assert set(loader._cache) == {clip.id for clip in sending.clips}
    assert all(kept.dtype == "int16" for kept in loader._cache.values())
