"""The speller: what it may see, padding, its scores, and how it decides among texts."""

from typing import Any

import pytest
import torch

from tacoskip.masks import lengths_to_mask
from tacoskip.models.recognizer import Recognizer
from tacoskip.models.settings import CBHGSettings, RecognizerSettings
from tacoskip.models.speller import Speller
from tacoskip.recognition.beam import BeamDecoder, BeamSettings, rescore
from tacoskip.text.subwords import Characters
from tacoskip.training.losses import spelling_loss

MEMORY = torch.randn(3, 9, 6, generator=torch.Generator().manual_seed(1))
MASK = lengths_to_mask(torch.tensor([9, 5, 3]))
SYMBOLS = torch.tensor([[2, 3, 2, 4], [1, 2, 0, 0], [4, 0, 0, 0]])
LENGTHS = torch.tensor([4, 2, 1])


def settings(**other: Any) -> RecognizerSettings:
    return RecognizerSettings(
        decoder="attention",
        decoder_channels=8,
        **{"dropout": 0.0, "time_masks": 0, "frequency_masks": 0, "channels": 6} | other,
    )


def tiny() -> Speller:
    torch.manual_seed(0)
    return Speller(6, 5, settings())


def test_item_alone_equals_item_in_batch() -> None:
    speller = tiny().eval()
    rubbish = MEMORY.masked_fill(~MASK[:, :, None], 50.0)
    together = speller(rubbish, MASK, SYMBOLS)
    for row, (frames, units) in enumerate(zip(MASK.sum(1).tolist(), LENGTHS.tolist(), strict=True)):
        alone = speller(
            MEMORY[row : row + 1, :frames],
            MASK[row : row + 1, :frames],
            SYMBOLS[row : row + 1, :units],
        )
        torch.testing.assert_close(together[row, : units + 1], alone[0], atol=1e-5, rtol=1e-5)


def test_a_token_does_not_depend_on_later_ones() -> None:
    speller = tiny().eval()
    other = SYMBOLS.clone()
    other[:, 2] = 1
    seen, unseen = speller(MEMORY, MASK, SYMBOLS), speller(MEMORY, MASK, other)
    torch.testing.assert_close(seen[:, :3], unseen[:, :3])
    assert (seen[0, 3] - unseen[0, 3]).abs().max() > 1e-6


def test_loss_is_minus_the_score_per_token() -> None:
    speller = tiny().eval()
    loss = spelling_loss(speller(MEMORY, MASK, SYMBOLS), SYMBOLS, LENGTHS)
    scores = [
        speller.score(MEMORY[row, : int(MASK[row].sum())], [SYMBOLS[row, :n].tolist(), [3]])[0]
        for row, n in enumerate(LENGTHS.tolist())
    ]
    torch.testing.assert_close(loss, -torch.stack(scores).sum() / (LENGTHS + 1).sum())


def test_every_parameter_of_the_hybrid_learns() -> None:
    torch.manual_seed(0)
    cbhg = CBHGSettings(
        bank_size=2, bank_channels=6, projection_channels=6, channels=6, gru_channels=3, depth=1
    )
    model = Recognizer(5, 5, 100.0, settings(), cbhg)
    mel = torch.randn(3, 18, 5)
    output = model(mel, torch.tensor([18, 10, 6]), SYMBOLS)
    assert output.spelled is not None and output.spelled.shape == (3, 5, 5)
    (spelling_loss(output.spelled, SYMBOLS, LENGTHS) - output.log_probs[:, :, 1].sum()).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []
    assert model(mel, torch.tensor([18, 10, 6])).spelled is None


@pytest.mark.usefixtures("flashlight")
def test_a_speller_can_overrule_ctc_and_its_weight_says_how_easily() -> None:
    letters = Characters(("_", " ", "a", "b"))
    row = torch.tensor([0.05, 0.01, 0.5, 0.44])
    log_probs = torch.stack([row, torch.tensor([0.97, 0.01, 0.01, 0.01])]).log()
    beam = BeamDecoder(letters, BeamSettings(10), nbest=4)
    assert [unit.index for unit in beam(log_probs)] == [2]

    def likes_b(memory: torch.Tensor, texts: list[list[int]]) -> torch.Tensor:
        assert len(memory) == 2
        return torch.tensor([0.0 if text == [3] else -4.0 for text in texts])

    for weight, expected in ((0.3, [3]), (1.0, [2])):
        found = rescore(beam, likes_b, weight, log_probs, torch.zeros(2, 6))
        assert [token.index for token in found] == expected
