"""Beam search against every text there is, and what a language model does to it."""

import itertools
from pathlib import Path

import pytest
import torch

from tacoskip.recognition.beam import BeamDecoder, BeamSettings
from tacoskip.recognition.decode import greedy
from tacoskip.recognition.ngram import NGram
from tacoskip.text.subwords import Characters, Subwords

pytestmark = pytest.mark.usefixtures("flashlight")

NAMES = ("_", " ", "a", "b")


def best_text(log_probs: torch.Tensor) -> tuple[int, ...]:
    """The likeliest tokens by summing every path."""
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        tokens = tuple(token for token, _ in itertools.groupby(path) if token)
        chance = float(log_probs[torch.arange(len(path)), torch.tensor(path)].sum().exp())
        totals[tokens] = totals.get(tokens, 0) + chance
    return max(totals, key=lambda tokens: totals[tokens])


def test_beam_search_finds_the_likeliest_text() -> None:
    decoder = BeamDecoder(Characters(NAMES), BeamSettings(size=200))
    differs = 0
    for seed in range(30):
        torch.manual_seed(seed)
        log_probs = torch.randn(4, 4)
        log_probs[:, 1] -= 9  # spaces at the ends are taken off
        log_probs = log_probs.log_softmax(1)
        expected = list(best_text(log_probs))
        assert [token.index for token in decoder(log_probs)] == expected
        differs += [token.index for token in greedy(log_probs)] != expected
    assert differs, "an example where summing paths matters"


def posteriors_of(word: str, doubt: str) -> torch.Tensor:
    """Posteriors of a word whose last letter is a little less likely than `doubt`."""
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
def test_language_model_decides_an_ambiguous_letter(tmp_path: Path, characters: bool) -> None:
    text = [["ab"]] * 5 + [["ba"]]
    if characters:
        text = [list("|".join(words)) for words in text]
    NGram(text, 2).write(tmp_path / "lm.arpa")
    posteriors = posteriors_of("ab", doubt="a")
    assert [NAMES[token.index] for token in greedy(posteriors)] == ["a", "a"]
    decoder = BeamDecoder(
        Characters(NAMES), BeamSettings(20, str(tmp_path / "lm.arpa"), lm_weight=2)
    )
    tokens = decoder(posteriors)
    assert [NAMES[token.index] for token in tokens] == ["a", "b"]
    assert [token.first for token in tokens] == [0, 2], "at the frames where they begin"


def test_word_model_with_subword_tokens(tmp_path: Path) -> None:
    subwords = Subwords.train(["the cat sat", "the hat sat", "that cat"] * 3, 40)
    NGram([["the", "hat"]] * 5 + [["the", "cat"]], 2).write(tmp_path / "words.arpa")
    rows = []
    for token in subwords.encode("the cat"):
        row = torch.full((40,), 0.001)
        row[token] = 0.45
        if subwords.symbols[token] in (" c", " cat"):  # as likely a hat
            row[subwords.encode("hat")[0]] = 0.44
        rows += [row / row.sum(), torch.tensor([0.96] + [0.04 / 39] * 39)]
    decoder = BeamDecoder(subwords, BeamSettings(50, str(tmp_path / "words.arpa"), lm_weight=2))
    found = decoder(torch.stack(rows).log())
    assert subwords.decode(token.index for token in found) == "the hat"
    NGram([list("the|hat")], 2).write(tmp_path / "letters.arpa")
    with pytest.raises(ValueError, match=r"expected a model of words with asr\.tokens=bpe"):
        BeamDecoder(subwords, BeamSettings(5, str(tmp_path / "letters.arpa")))


def test_missing_or_broken_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        BeamDecoder(Characters(NAMES), BeamSettings(5, str(tmp_path / "none.arpa")))
    (tmp_path / "bad.arpa").write_text("\\data\\\nngram 1=2\n\n\\1-grams:\n-1\ta\nrubbish line\n")
    with pytest.raises(ValueError, match=r"bad.arpa"):
        BeamDecoder(Characters(NAMES), BeamSettings(5, str(tmp_path / "bad.arpa")))
