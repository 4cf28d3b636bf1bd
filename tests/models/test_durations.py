"""Durations in the place of attention: padding changes nothing, synthesis runs what was trained."""

import pytest
import torch

from tacoskip.models.durations import DurationDecoder, upsampling_weights
from tacoskip.models.settings import CBHGSettings, TacotronSettings
from tacoskip.models.tacotron import Tacotron

SYMBOLS = torch.tensor([[3, 4, 5, 6, 1], [5, 9, 1, 0, 0]])
DURATIONS = torch.tensor([[3, 0, 4, 5, 2], [4, 4, 1, 0, 0]])
SYMBOL_LENGTHS, MEL_LENGTHS = torch.tensor([5, 3]), torch.tensor([14, 9])
SPEAKERS = torch.tensor([0, 1])


@pytest.fixture
def model() -> Tacotron:
    torch.manual_seed(0)
    cbhg = CBHGSettings(
        bank_size=3, bank_channels=6, projection_channels=6, channels=6, gru_channels=5, depth=2
    )
    settings = TacotronSettings(
        embedding_channels=8,
        prenet_channels=[8, 6],
        attention="durations",
        attention_channels=7,
        speaker_channels=4,
        frames_per_step=3,
    )
    return Tacotron(10, 5, 11, 2, settings, cbhg, cbhg).eval()


def test_weights_read_each_symbol_for_its_duration() -> None:
    weights = upsampling_weights(torch.tensor([[4, 0, 8, 4]]), 8, 2)
    torch.testing.assert_close(weights.sum(2), torch.ones(1, 8))
    assert weights.argmax(2).tolist() == [[0, 0, 2, 2, 2, 2, 3, 3]]
    assert weights[0, :, 1].max() == 0


def test_item_alone_equals_item_in_batch(model: Tacotron) -> None:
    mel = torch.randn(2, 14, 5)
    inputs = SYMBOLS, SYMBOL_LENGTHS, mel, MEL_LENGTHS, SPEAKERS, DURATIONS
    together = model(*inputs)
    alone = model(SYMBOLS[1:, :3], *(x[1:] for x in (SYMBOL_LENGTHS,)), mel[1:, :9],
                  MEL_LENGTHS[1:], SPEAKERS[1:], DURATIONS[1:, :3])  # fmt: skip
    torch.testing.assert_close(together.mel[1:, :9], alone.mel, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.linear[1:, :9], alone.linear, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.log_durations[1:, :3], alone.log_durations)


def test_synthesis_equals_training_at_the_same_durations(
    model: Tacotron, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced = model(SYMBOLS, SYMBOL_LENGTHS, torch.zeros(2, 14, 5), MEL_LENGTHS, SPEAKERS, DURATIONS)
    assert isinstance(model.decoder, DurationDecoder)
    monkeypatch.setattr(model.decoder.predictor, "forward", lambda *_: DURATIONS.float().log1p())
    free = model.infer(SYMBOLS, SYMBOL_LENGTHS, SPEAKERS, torch.tensor([50, 50]), 5)
    assert free.mel_lengths.tolist() == MEL_LENGTHS.tolist() and free.stopped.all()
    torch.testing.assert_close(free.linear, forced.linear, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(free.log_durations, DURATIONS.float().log1p())
    cut = model.infer(SYMBOLS, SYMBOL_LENGTHS, SPEAKERS, torch.tensor([10, 50]), 5)
    assert cut.mel_lengths.tolist() == [10, 9] and cut.stopped.tolist() == [False, True]


def test_gradients_reach_every_parameter(model: Tacotron) -> None:
    output = model.train()(
        SYMBOLS, SYMBOL_LENGTHS, torch.zeros(2, 14, 5), MEL_LENGTHS, SPEAKERS, DURATIONS
    )
    (output.mel.sum() + output.linear.square().sum() + output.log_durations.sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_durations_are_required(model: Tacotron) -> None:
    with pytest.raises(ValueError, match="expected the durations"):
        model(SYMBOLS, SYMBOL_LENGTHS, torch.zeros(2, 14, 5), MEL_LENGTHS, SPEAKERS)
