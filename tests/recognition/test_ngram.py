"""N-gram models: probabilities that sum to one, the textbook's values, and KenLM's own reading."""

import random
from pathlib import Path

import pytest

from tacoskip.recognition.arpa import arpa_words
from tacoskip.recognition.ngram import END, FALLBACK, START, UNKNOWN, NGram, train_file

WORDS = "a b c d e f g".split()


def sentences(count: int = 60) -> list[list[str]]:
    rng = random.Random(0)
    weights = [13, 8, 5, 3, 2, 1, 1]
    return [rng.choices(WORDS, weights, k=rng.randint(1, 8)) for _ in range(count)]


def prob(model: NGram, word: str, context: tuple[str, ...] = ()) -> float:
    """p(word | context) by the back-off rule of ARPA files."""
    if (word,) not in model.probability[0]:
        word = UNKNOWN
    weight, context = 1.0, context[max(0, len(context) - len(model.probability) + 1) :]
    while (*context, word) not in model.probability[len(context)]:
        weight *= model.backoff.get(context, 1.0)
        context = context[1:]
    return weight * model.probability[len(context)][(*context, word)]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one_after_any_context(order: int) -> None:
    model = NGram(sentences(), order)
    for context in ((), (START,), ("a",), ("a", "b"), ("g", "g"), (START, "a", "a"), ("x", "a")):
        total = sum(prob(model, word, context) for word in [*WORDS, END, UNKNOWN])
        assert total == pytest.approx(1, abs=1e-9)


def test_a_bigram_by_hand() -> None:
    """Kneser-Ney by the formula for "a b" and "a c", with the discounts of tiny texts."""
    model = NGram([["a", "b"], ["a", "c"]], 2)
    # Unigrams count the words before: a 1 (<s>), b 1 (a), c 1 (a), </s> 2 (b, c); five outcomes.
    one, two = FALLBACK[0], FALLBACK[1]
    gamma = (3 * one + two) / 5
    b = (1 - one) / 5 + gamma / 5
    assert prob(model, "b") == pytest.approx(b)
    assert prob(model, "b", ("a",)) == pytest.approx((1 - one) / 2 + (2 * one) / 2 * b)
    assert prob(model, "a", (START,)) == pytest.approx(
        (2 - two) / 2 + two / 2 * ((1 - one) / 5 + gamma / 5)
    )


def test_seen_beats_unseen_and_more_context_helps() -> None:
    text = [["the", "cat", "sat"], ["the", "dog", "ran"]] * 5
    model = NGram(text, 3)
    assert prob(model, "sat", ("the", "cat")) > 10 * prob(model, "ran", ("the", "cat"))


@pytest.mark.usefixtures("flashlight")
@pytest.mark.parametrize("order", [2, 3])
def test_kenlm_reads_the_file_and_finds_the_same_probabilities(tmp_path: Path, order: int) -> None:
    from flashlight.lib.text.decoder import KenLM
    from flashlight.lib.text.dictionary import create_word_dict

    model = NGram(sentences(), order)
    model.write(tmp_path / "lm.arpa")
    known = create_word_dict({word: [[word]] for word in [*WORDS, UNKNOWN]})
    reader = KenLM(str(tmp_path / "lm.arpa"), known)
    for sentence in (["a", "b", "a"], ["g", "f", "e"], ["d"]):
        state, context = reader.start(False), (START,)
        for word in sentence:
            state, score = reader.score(state, known.get_index(word))
            assert 10**score == pytest.approx(prob(model, word, context), rel=1e-3)
            context = (*context, word)
        assert 10 ** reader.finish(state)[1] == pytest.approx(prob(model, END, context), rel=1e-3)


def test_texts_are_read_as_they_are_spoken(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("He saw 2 dogs!\n\n-- \nA dog; he saw.\n")
    result = train_file([text], tmp_path / "lm.arpa", 2)
    assert result["sentences"] == 2
    assert sorted(arpa_words(tmp_path / "lm.arpa")) == ["a", "dog", "dogs", "he", "saw", "two"]
    train_file([text], tmp_path / "characters.arpa", 4, characters=True)
    assert "|" in set(arpa_words(tmp_path / "characters.arpa"))


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("...\n")
    with pytest.raises(ValueError, match="expected a text with words"):
        train_file([tmp_path / "empty.txt"], tmp_path / "lm.arpa", 2)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"latin.txt: expected UTF-8 text, got byte 0xe9 at 3"):
        train_file([tmp_path / "latin.txt"], tmp_path / "lm.arpa", 2)
    with pytest.raises(ValueError, match=r"expected an ARPA language model"):
        list(arpa_words(tmp_path / "empty.txt"))


def test_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one two three\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        train_file([tmp_path / "folder"], tmp_path / "lm.arpa", 2)
    with pytest.raises(IsADirectoryError):
        train_file([tmp_path / "text.txt"], tmp_path / "folder", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "text.txt"]
