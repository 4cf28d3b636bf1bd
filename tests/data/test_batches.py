"""Batches: what is in them, that each epoch is whole, and that a resumed run sees the same ones."""

import json
import warnings
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from tacoskip.audio import FrontEnd
from tacoskip.data.batches import TrainBatches, validation_batches
from tacoskip.data.errors import CorpusError
from tacoskip.data.loading import Batch, feature_statistics
from tacoskip.data.prepare import prepare
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.data.settings import AugmentSettings, DataSettings
from tacoskip.text import TextSettings, Tokenizer


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, make) -> SimpleNamespace:
    """A prepared corpus of 60 clips of three speakers and what it takes to make batches."""
    root = tmp_path_factory.mktemp("corpus")
    clips = make.words(60)
    make.wavs(root, clips)
    rows = [f"wavs/{id}.wav,{text},s{n % 3}" for n, (id, text) in enumerate(clips)]
    (root / "metadata.csv").write_text("\n".join(["path,text,speaker", *rows]))
    data = DataSettings(corpus="folder", root=str(root), dir=str(root / "prepared"))
    config = make.config(data, make.audio)
    prepare(config, jobs=2)
    return SimpleNamespace(
        corpus=PreparedCorpus(root / "prepared"),
        data=data,
        front_end=FrontEnd(make.audio),
        tokenizer=Tokenizer(TextSettings()),
        rate=make.rate,
    )


def train(house: SimpleNamespace, seed: int = 7, **settings: object) -> TrainBatches:
    data = DataSettings(**({"batch_seconds": 8.0, "max_batch": 6} | settings))
    return TrainBatches(
        house.corpus.train, data, house.front_end, house.tokenizer, house.corpus.speakers, seed
    )


def same(a: Batch, b: Batch) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


def test_batch_holds_padded_features_and_symbols(house, make):
    batches = train(house, workers=0)
    batch = next(b for b in batches if len(set(b.mel_lengths.tolist())) > 2)
    count = len(batch)
    assert count == len(batch.ids) == len(batch.texts) == len(batch.symbols) <= 6
    assert batch.symbols.dtype == batch.speakers.dtype == batch.mel_lengths.dtype == torch.int64
    assert batch.mel.shape == (count, int(batch.mel_lengths.max()), make.audio.n_mels)
    assert batch.linear.shape == (count, batch.mel.shape[1], make.audio.n_bins)
    assert batch.symbols.shape == (count, int(batch.symbol_lengths.max()))
    clips = {clip.id: clip for clip in house.corpus.train}
    for i, id in enumerate(batch.ids):
        clip = clips[id]
        assert batch.texts[i] == clip.text
        assert house.corpus.speakers[batch.speakers[i]] == clip.speaker
        symbols = house.tokenizer.encode(clip.text)
        assert batch.symbols[i, : len(symbols)].tolist() == symbols
        assert (
            batch.symbol_lengths[i] == len(symbols) and not batch.symbols[i, len(symbols) :].any()
        )
        wave = torch.from_numpy(clip.load())
        linear, mel = house.front_end.features(wave)
        frames = int(batch.mel_lengths[i])
        torch.testing.assert_close(batch.mel[i, :frames], mel)
        torch.testing.assert_close(batch.linear[i, :frames], linear)
        assert not batch.mel[i, frames:].any() and not batch.linear[i, frames:].any()


@pytest.mark.parametrize("join", [[1, 1], [2, 4]])
@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_are_whole_and_within_limits(house, join, workers):
    batches = train(house, join=join, workers=workers)
    epochs: list[list[Batch]] = [[], [], []]
    while (batch := next(batches)) and batches.epoch < 3:
        epochs[batches.epoch].append(batch)
    batches.close()
    expected = {clip.id for clip in house.corpus.train}
    for epoch in epochs:
        words = Counter(" ".join(" ".join(b.texts) for b in epoch).split())
        clips = Counter(" ".join(c.text for c in house.corpus.train).split())
        if join == [1, 1]:
            assert Counter(id for batch in epoch for id in batch.ids) == dict.fromkeys(expected, 1)
            assert words == clips
        assert clips <= words and words.total() <= clips.total() + 9
        for batch in epoch:
            # a frame is 12.5 ms and a clip of n frames lasts at least n - 1 of them
            seconds = (batch.mel.shape[1] - 1) * 0.0125
            assert len(batch) == 1 or (len(batch) * seconds <= 8.01 and len(batch) <= 6)
    order = [[batch.ids for batch in epoch] for epoch in epochs]
    assert order[0] != order[1] != order[2]


def test_clips_in_a_batch_are_of_similar_length(house):
    batches = train(house, workers=0)
    frames = padded = 0
    while batches.epoch == 0:
        batch = next(batches)
        frames += int(batch.mel_lengths.sum())
        padded += batch.mel.shape[0] * batch.mel.shape[1]
    assert frames / padded > 0.8  # clips are 0.5 to 1.7 s: at random it would be about 0.65


@pytest.mark.parametrize("join", [[1, 1], [1, 3]])
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("steps", [0, 1, 5, 23])
def test_resumed_batches_match_uninterrupted_ones(house, join, workers, steps):
    """The state is of the batches handed out, however many more were built ahead."""
    run = train(house, join=join, workers=workers)
    for _ in range(steps):
        next(run)
    state = run.state_dict()
    expected = [next(run) for _ in range(20)]
    run.close()
    resumed = train(house, join=join, workers=2 - min(workers, 2))
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert all(same(next(resumed), batch) for batch in expected)
    # also in a run that had begun with something else
    resumed.load_state_dict(state)
    assert same(next(resumed), expected[0])
    resumed.close()


def test_state_is_json(house):
    state = train(house).state_dict()
    assert json.loads(json.dumps(state)) == state


@pytest.mark.parametrize("change", [{"seed": 8}, {"batch_seconds": 6.0}, {"join": [1, 2]}])
def test_resuming_with_other_settings_begins_the_epoch_anew(house, change):
    run = train(house, workers=0)
    for _ in range(30):
        next(run)
    epoch = run.epoch
    assert epoch > 0
    other = train(house, workers=0, **change)
    with pytest.warns(UserWarning, match="begins anew"):
        other.load_state_dict(run.state_dict())
    assert other.state_dict()["epoch"] == epoch and other.state_dict()["batches"] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(house, workers=0).load_state_dict(run.state_dict())


def test_close_keeps_the_position(house):
    run, other = train(house, workers=2), train(house, workers=2)
    first = [next(run) for _ in range(3)]
    run.close()
    second = [next(run) for _ in range(3)]
    assert all(same(next(other), batch) for batch in first + second)
    run.close()
    other.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_several_processes_share_the_rows_of_each_batch(house, workers):
    data = DataSettings(batch_seconds=4.0, max_batch=3, workers=workers)
    args = (house.front_end, house.tokenizer, house.corpus.speakers, 3)
    one, *others = (TrainBatches(house.corpus.train, data, *args) for _ in range(4))
    for rank, batches in enumerate(others):
        batches.rank, batches.world_size = rank, 3
    sizes = set[int]()
    while one.epoch == 0:
        whole, shares = next(one), [next(batches) for batches in others]
        sizes.add(len(whole))
        if len(whole) >= 3:
            assert sorted(id for batch in shares for id in batch.ids) == sorted(whole.ids)
        else:
            assert all(batch.ids == whole.ids for batch in shares)
        assert all(batches.state_dict() == one.state_dict() for batches in others)
    assert 3 in sizes and len(sizes) > 1
    for batches in (one, *others):
        batches.close()


def test_longest_batch_keeps_the_position(house):
    batches, untouched = train(house, workers=0), train(house, workers=0)
    longest = batches.longest()
    assert batches.state_dict() == untouched.state_dict()
    seen = [next(untouched) for _ in range(30)]
    assert same(next(batches), seen[0])
    epoch = [batch.mel.shape[0] * batch.mel.shape[1] for batch in seen[:20]]
    assert (
        longest.mel.shape[0] * longest.mel.shape[1] >= max(epoch) - 6
    )  # a frame a row of rounding


@pytest.mark.parametrize("clips", [1, 2, 9])
def test_corpus_of_few_clips(house, clips):
    data = DataSettings(workers=0)
    args = (house.front_end, house.tokenizer, house.corpus.speakers)
    batches = TrainBatches(list(house.corpus.train)[:clips], data, *args)
    assert len(next(batches)) >= 1
    with pytest.raises(ValueError, match="got none"):
        TrainBatches([], data, *args)


def test_memory_for_features_is_bounded(house, monkeypatch):
    roomy = train(house, workers=0)
    monkeypatch.setattr("tacoskip.data.loading.CACHE_BYTES", 500_000)
    tight = train(house, workers=0)
    for _ in range(30):
        assert same(next(roomy), next(tight))

    def held(batches: TrainBatches) -> int:
        return sum(a.nbytes + b.nbytes for a, b in batches.loader._cache.values())

    assert 0 < held(tight) <= 5e5 < held(roomy)


def test_missing_clip_is_named(house, tmp_path):
    clip = replace(house.corpus.train[0], source=str(tmp_path / "gone.flac"))
    data = DataSettings(workers=1)
    args = (house.front_end, house.tokenizer, house.corpus.speakers)
    batches = TrainBatches([clip], data, *args)
    with pytest.raises(CorpusError, match=r"gone\.flac.*tacoskip prepare"):
        next(batches)
    batches.close()


def test_moving_to_a_device(house):
    batch = next(train(house, workers=0))
    moved = batch.to("meta")
    assert moved.mel.device.type == "meta" and moved.symbols.device.type == "meta"
    assert moved.ids == batch.ids and batch.mel.device.type == "cpu"


def test_validation_batches(house):
    data = DataSettings(batch_seconds=4.0, max_batch=3)
    args = (data, house.front_end, house.tokenizer, house.corpus.speakers)
    batches = validation_batches(house.corpus.train, *args)
    ids = [id for batch in batches for id in batch.ids]
    assert sorted(ids) == sorted(clip.id for clip in house.corpus.train)
    lengths = [int(n) for batch in batches for n in batch.mel_lengths]
    assert lengths == sorted(lengths) and max(len(batch) for batch in batches) == 3
    shuffled = sorted(house.corpus.train, key=lambda clip: hash(clip.id))
    again = validation_batches(shuffled, *args)
    assert all(same(a, b) for a, b in zip(batches, again, strict=True))
    assert validation_batches([], *args) == []


def test_joined_validation(house):
    data = DataSettings(join=[2, 3], max_batch=4)
    args = (data, house.front_end, house.tokenizer, house.corpus.speakers)
    first = validation_batches(house.corpus.train, *args, joined=True)
    again = validation_batches(house.corpus.train, *args, joined=True)
    assert all(id.startswith("join-") for batch in first for id in batch.ids)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))


def test_statistics_match_numpy(house, monkeypatch):
    mel_mean, mel_std, linear_mean, linear_std = feature_statistics(
        house.corpus.train, house.front_end
    )
    waves = [torch.from_numpy(clip.load()) for clip in house.corpus.train]
    linear, mel = zip(*(house.front_end.features(wave) for wave in waves), strict=True)
    for frames, mean, std in (
        (np.concatenate(mel), mel_mean, mel_std),
        (np.concatenate(linear), linear_mean, linear_std),
    ):
        np.testing.assert_allclose(mean, frames.mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(std, frames.std(axis=0), atol=1e-3)
    monkeypatch.setattr("tacoskip.data.loading.STATISTICS_CLIPS", 5)
    few = feature_statistics(house.corpus.train, house.front_end)
    assert not torch.equal(few[0], mel_mean)
    with pytest.raises(ValueError, match="got none"):
        feature_statistics([], house.front_end)


def test_silent_band_has_a_positive_deviation(tmp_path: Path, make):
    class Flat:
        settings = make.audio

        def features(self, wave: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.full((5, 3), -5.0), torch.full((5, 2), -5.0)

    root = make.corpus(tmp_path / "c", make.words(3))
    data = DataSettings(corpus="folder", root=str(root), dir=str(tmp_path / "p"))
    prepare(make.config(data, make.audio), jobs=1)
    _, mel_std, _, linear_std = feature_statistics(PreparedCorpus(tmp_path / "p").train, Flat())
    assert (mel_std > 0).all() and (linear_std > 0).all()


def test_clip_at_another_rate_is_refused(house, make, tmp_path):
    soundfile.write(tmp_path / "a.flac", make.buzz(1.0, 16000), 16000)
    clip = replace(house.corpus.train[0], source=str(tmp_path / "a.flac"))
    with pytest.raises(CorpusError, match=r"expected .* at 8000 Hz, got 16000 Hz"):
        feature_statistics([clip], house.front_end)


def test_speakers_are_chosen_and_left_out(house: SimpleNamespace, make) -> None:
    """The test split keeps everybody who is left out, nobody who is not chosen."""

    def speakers(split: str, speaker: str) -> set[str]:
        data = replace(house.data, speaker=speaker)
        corpus = PreparedCorpus.of(make.config(data, make.audio))
        return {clip.speaker for clip in getattr(corpus, split)}

    assert speakers("train", "-s1") == {"s0", "s2"} >= speakers("validation", "-s1")
    assert speakers("test", "-s1") == speakers("test", "")
    assert speakers("train", "s0,s2") == {"s0", "s2"} >= speakers("test", "s0,s2")
    with pytest.raises(ValueError, match=r"unknown speaker 'eve' in data\.speaker"):
        speakers("train", "-eve")
    with pytest.raises(ValueError, match=r"'s1x' in data\.speaker; did you mean 's1'\?"):
        speakers("train", "s1x")


def test_perturbed_batches_differ_by_epoch_and_repeat(house: SimpleNamespace) -> None:
    augment = AugmentSettings(speed=[0.9, 1.1], noise_db=[5, 20], noise_share=1.0)

    def batches(count: int) -> list[Batch]:
        train = TrainBatches(
            list(house.corpus.train)[:4],
            replace(house.data, max_batch=4, batch_seconds=60, workers=0),
            house.front_end,
            house.tokenizer,
            house.corpus.speakers,
            linear=False,
            augment=augment,
        )
        return [next(train) for _ in range(count)]

    first, second = batches(2)
    again = batches(2)
    torch.testing.assert_close(again[1].mel, second.mel)
    assert first.linear.shape == (*first.mel.shape[:2], 0)
    by_id = dict(zip(second.ids, second.mel_lengths.tolist(), strict=True))
    assert sorted(first.ids) == sorted(by_id)
    lengths = [by_id[id] for id in first.ids]
    assert lengths != first.mel_lengths.tolist() or not torch.equal(first.mel, second.mel)
