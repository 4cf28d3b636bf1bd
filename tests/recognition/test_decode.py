"""Greedy decoding, times and confidence."""

import math

import pytest
import torch

from tacoskip.recognition.decode import Token, frames_needed, greedy, greedy_batch
from tacoskip.recognition.transcript import confidence, words_of

NAMES = ["_", " ", "a", "b"]


def path(tokens: list[int], share: float = 0.7) -> torch.Tensor:
    """Log probabilities (L, 4) that give `share` to one token a frame."""
    probabilities = torch.full((len(tokens), 4), (1 - share) / 3)
    probabilities[torch.arange(len(tokens)), torch.tensor(tokens)] = share
    return probabilities.log()


def test_repeats_merge_unless_a_blank_stands_between() -> None:
    tokens = greedy(path([0, 2, 2, 0, 2, 3, 3, 3, 1]))
    assert [(token.index, token.first, token.last) for token in tokens] == [
        (2, 1, 2),
        (2, 4, 4),
        (3, 5, 7),
        (1, 8, 8),
    ]


def test_greedy_batch_ignores_padding() -> None:
    rows = [[2, 2, 0, 2, 3, 1], [3, 0, 3, 2, 2, 2]]
    batch = torch.stack([path(row) for row in rows])
    assert greedy_batch(batch, torch.tensor([6, 3])) == [[2, 2, 3, 1], [3, 3]]


def test_words_have_times_and_confidence() -> None:
    words = words_of(greedy(path([0, 2, 2, 3, 0, 1, 1, 3])), NAMES, 0.1, offset=5)
    assert [word.text for word in words] == ["ab", "b"]
    assert (words[0].start, words[0].end) == pytest.approx((5.1, 5.4))
    assert [s.text for s in words[0].characters] == ["a", "b"]
    assert words[1].start == pytest.approx(5.7) and words[1].confidence == pytest.approx(0.7)


def test_confidence_is_a_geometric_mean() -> None:
    tokens = [Token(2, 0, 0, math.log(0.5)), Token(3, 1, 1, math.log(0.125))]
    words = words_of(tokens, NAMES, 0.1)
    assert words[0].confidence == pytest.approx(0.25)
    assert confidence([]) == 0


def test_a_unit_of_several_characters_shares_its_time() -> None:
    (word,) = words_of([Token(0, 2, 3, 0.0)], [" ab"], 0.3)
    assert [s.text for s in word.characters] == ["a", "b"]
    assert word.characters[0].end == pytest.approx(word.characters[1].start) == pytest.approx(1.0)


def test_frames_needed_by_ctc() -> None:
    """As many as the shortest path has: checked against torch's own loss."""
    for tokens in ([2], [2, 2], [2, 3, 3, 3, 2]):
        needed = frames_needed(tokens)
        for frames, possible in ((needed, True), (needed - 1, False)):
            if frames:
                loss = torch.nn.functional.ctc_loss(
                    torch.zeros(frames, 1, 4).log_softmax(2),
                    torch.tensor([tokens]),
                    torch.tensor([frames]),
                    torch.tensor([len(tokens)]),
                )
                assert bool(torch.isfinite(loss)) is possible
