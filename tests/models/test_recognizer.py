"""The recognizer: padding reaches nothing, loudness neither, every weight learns."""

from typing import Any

import pytest
import torch

from tacoskip.masks import lengths_to_mask, subsampled
from tacoskip.models.recognizer import Recognizer, RecognizerOutput, SpecAugment, normalize
from tacoskip.models.settings import CBHGSettings, RecognizerSettings

LENGTHS = torch.tensor([17, 10, 3])
MEL = torch.randn(3, 17, 5, generator=torch.Generator().manual_seed(1))


def tiny(subsampling: int = 2, layers: int = 2, **settings: Any) -> Recognizer:
    torch.manual_seed(0)
    cbhg = CBHGSettings(
        bank_size=3, bank_channels=6, projection_channels=6, channels=6, gru_channels=5, depth=2
    )
    parts = {"channels": 7, "dropout": 0.0, "time_masks": 0, "frequency_masks": 0} | settings
    return Recognizer(
        5, 9, 100.0, RecognizerSettings(subsampling=subsampling, layers=layers, **parts), cbhg
    )


def padded(extra: int) -> torch.Tensor:
    return torch.cat([MEL, torch.full((3, extra, 5), 50.0)], 1)


@pytest.mark.parametrize("subsampling", [1, 2, 4])
def test_item_alone_equals_item_in_batch(subsampling: int) -> None:
    model = tiny(subsampling).eval()
    together = model(padded(6), LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(MEL[row : row + 1, :length], LENGTHS[row : row + 1])
        frames = int(alone.lengths[0])
        assert frames == int(together.lengths[row]) == -(-length // subsampling)
        torch.testing.assert_close(
            together.log_probs[row, :frames], alone.log_probs[0], atol=1e-5, rtol=1e-5
        )


def test_more_padding_changes_no_output_and_no_gradient_in_training() -> None:
    """SpecAugment included: what it hides does not depend on padding."""
    results = []
    for extra in (0, 7):
        model = tiny(time_masks=2, frequency_masks=1).double().train()
        model.augment.time_share = 0.4
        torch.manual_seed(3)
        output = model(padded(extra).double(), LENGTHS)
        frames = subsampled(LENGTHS, 2)
        output.log_probs[
            lengths_to_mask(frames, output.log_probs.shape[1])
        ].square().sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        results.append((output.log_probs[:, :9], gradients, list(model.buffers())))
    torch.testing.assert_close(results[0], results[1], atol=1e-9, rtol=1e-9)


def test_probabilities_sum_to_one() -> None:
    output = tiny()(MEL, LENGTHS)
    torch.testing.assert_close(output.log_probs.exp().sum(2), torch.ones(3, 9))


def test_loudness_and_microphone_fall_out() -> None:
    mask, corpus = lengths_to_mask(LENGTHS), (torch.randn(5), torch.rand(5) + 0.5)
    alone = normalize(MEL, mask, *corpus, prior=0.0)
    other_room = normalize(MEL + torch.randn(5), mask, *corpus, prior=0.0)
    torch.testing.assert_close(other_room, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone[0].mean(0), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(alone[1, :10].std(0, unbiased=False), torch.ones(5))
    louder = normalize(MEL + 3.0, mask, *corpus, prior=20.0)
    torch.testing.assert_close(louder, normalize(MEL, mask, *corpus, prior=20.0))
    flat = normalize(torch.full((1, 4, 5), -5.0), torch.ones(1, 4).bool(), *corpus, prior=0.0)
    assert flat.abs().sum() == 0


def test_the_corpus_counts_as_so_many_frames_more() -> None:
    corpus, own = torch.randn(30, 5), MEL[:1]
    below = corpus - corpus.mean(1).max()
    statistics = below.mean(0), below.std(0, unbiased=False)
    found = normalize(own, torch.ones(own.shape[:2]).bool(), *statistics, prior=30.0)
    together = torch.cat([own[0] - own[0].mean(1).max(), below])
    expected = (own[0] - own[0].mean(1).max() - together.mean(0)) / together.std(0, unbiased=False)
    torch.testing.assert_close(found[0], expected)
    model = tiny()
    model.take_statistics([corpus])
    torch.testing.assert_close((model.mel_mean, model.mel_std), statistics)


def test_spec_augment_hides_what_it_may_and_no_more() -> None:
    augment, x = SpecAugment(time_masks=1, frequency_masks=1, bands=3), torch.ones(200, 40, 10)
    augment.time_share = 0.25
    lengths = torch.full((200,), 20)
    torch.manual_seed(0)
    hidden = augment(x, lengths) == 0
    frames = hidden.all(2).sum(1)
    bands = hidden[:, 20:].all(1).sum(1)
    assert hidden[:, 20:].any(1).sum(1).max() == bands.max() == 3 and bands.min() == 0
    assert frames.max() == 5 and frames.min() == 0
    assert not hidden[:, 20:].all(2).any(), "a stretch of time beyond the real frames"
    assert hidden.all(2)[:, 0].any() and hidden.all(2)[:, 19].any()
    assert augment.eval()(x, lengths) is x


def test_every_parameter_learns() -> None:
    model = tiny()
    model(MEL, LENGTHS).log_probs[:, :, 1:3].sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_a_subsampling_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected asr\.subsampling 1, 2, 4, 8, .*, got 3"):
        tiny(3)


def test_golden_output_has_not_moved() -> None:
    """Guards the network against silent change: figures of a seeded pass."""
    output: RecognizerOutput = tiny().eval()(MEL, LENGTHS)
    got = torch.stack([output.log_probs[0].mean(), output.log_probs[0, :, 0].mean()])
    torch.testing.assert_close(got, torch.tensor(GOLDEN), atol=1e-4, rtol=1e-3)


GOLDEN = [-2.25255, -1.96828]
