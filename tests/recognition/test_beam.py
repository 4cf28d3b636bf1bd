"""Beam search against every text there is, and what a language model does to it."""

import itertools
from pathlib import Path

import pytest
import torch

from tacoskip.recognition.beam import BeamDecoder, BeamSettings
from tacoskip.recognition.decode import greedy
from tacoskip.recognition.ngram import NGram
from tacoskip.text.subwords import Characters, Subwords

NAMES = ("_", " ", "a", "b")


def best_text(log_probs: torch.Tensor) -> tuple[int, ...]:
    """The likeliest units by summing every path."""
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        units = tuple(unit for unit, _ in itertools.groupby(path) if unit)
        chance = float(log_probs[torch.arange(len(path)), torch.tensor(path)].sum().exp())
        totals[units] = totals.get(units, 0) + chance
    return max(totals, key=lambda units: totals[units])


def test_it_finds_the_likeliest_text_where_greedy_does_not() -> None:
    decoder = BeamDecoder(Characters(NAMES), BeamSettings(size=200))
    differs = 0
    for seed in range(30):
        torch.manual_seed(seed)
        log_probs = torch.randn(4, 4)
        log_probs[:, 1] -= 9  # spaces at the ends are taken off
        log_probs = log_probs.log_softmax(1)
        expected = list(best_text(log_probs))
        assert [unit.index for unit in decoder(log_probs)] == expected
        differs += [unit.index for unit in greedy(log_probs)] != expected
    assert differs, "an example where summing paths matters"


def heard(word: str, doubt: str) -> torch.Tensor:
    """Posteriors of a word said clearly but for its last letter, which is a little more `doubt`."""
    rows = []
    for letter, share in [*((c, 0.9) for c in word[:-1]), ("?", 0.0)]:
        row = torch.full((4,), 0.02)
        if letter == "?":
            row[NAMES.index(word[-1])], row[NAMES.index(doubt)] = 0.4, 0.5
        else:
            row[NAMES.index(letter)] = share
        rows += [row / row.sum(), torch.tensor([0.94, 0.02, 0.02, 0.02])]
    return torch.stack(rows).log()


@pytest.mark.parametrize("characters", [False, True])
def test_a_language_model_decides_what_is_unclear(tmp_path: Path, characters: bool) -> None:
    text = [["ab"]] * 5 + [["ba"]]
    if characters:
        text = [list("|".join(words)) for words in text]
    NGram(text, 2).write(tmp_path / "lm.arpa")
    posteriors = heard("ab", doubt="a")
    assert [NAMES[unit.index] for unit in greedy(posteriors)] == ["a", "a"]
    decoder = BeamDecoder(
        Characters(NAMES), BeamSettings(20, str(tmp_path / "lm.arpa"), lm_weight=2)
    )
    units = decoder(posteriors)
    assert [NAMES[unit.index] for unit in units] == ["a", "b"]
    assert [unit.first for unit in units] == [0, 2], "at the frames where they were heard"


def test_a_model_of_words_spells_them_in_pieces(tmp_path: Path) -> None:
    pieces = Subwords.train(["the cat sat", "the hat sat", "that cat"] * 3, 40)
    NGram([["the", "hat"]] * 5 + [["the", "cat"]], 2).write(tmp_path / "words.arpa")
    rows = []
    for unit in pieces.encode("the cat"):
        row = torch.full((40,), 0.001)
        row[unit] = 0.45
        if pieces.symbols[unit] in (" c", " cat"):  # as likely a hat
            row[pieces.encode("hat")[0]] = 0.44
        rows += [row / row.sum(), torch.tensor([0.96] + [0.04 / 39] * 39)]
    decoder = BeamDecoder(pieces, BeamSettings(50, str(tmp_path / "words.arpa"), lm_weight=2))
    found = decoder(torch.stack(rows).log())
    assert pieces.decode(unit.index for unit in found) == "the hat"
    NGram([list("the|hat")], 2).write(tmp_path / "letters.arpa")
    with pytest.raises(ValueError, match=r"expected a model of words with asr\.tokens=bpe"):
        BeamDecoder(pieces, BeamSettings(5, str(tmp_path / "letters.arpa")))


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such language model"):
        BeamDecoder(Characters(NAMES), BeamSettings(5, str(tmp_path / "none.arpa")))
    (tmp_path / "bad.arpa").write_text("\\data\\\nngram 1=2\n\n\\1-grams:\n-1\ta\nrubbish line\n")
    with pytest.raises(ValueError, match=r"bad.arpa"):
        BeamDecoder(Characters(NAMES), BeamSettings(5, str(tmp_path / "bad.arpa")))
