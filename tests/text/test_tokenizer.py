"""Symbols, ids, and the characters that are dropped."""

import warnings

import pytest

from tacoskip.text import DroppedCharacters, TextSettings, Tokenizer, normalize


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(TextSettings())


def test_the_table_is_fixed(tokenizer: Tokenizer) -> None:
    # Checkpoints hold an embedding for each of these, in this order.
    assert "".join(tokenizer.symbols) == "_~abcdefghijklmnopqrstuvwxyz !'(),-.:;?\""
    assert len(tokenizer) == 40


def test_encode_and_decode(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("Dr. Who: 42?")
    assert ids[-1] == 1 and 0 not in ids and ids.count(1) == 1
    assert tokenizer.decode(ids) == "doctor who: forty-two?"
    assert tokenizer.decode([*ids, 0, 0]) == "doctor who: forty-two?"


def test_normalized_text_is_taken_as_it_is(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("Dr. Müller’s", normalized=True)) == "dr. muller's"


def test_many_is_one_by_one(tokenizer: Tokenizer) -> None:
    texts = ["One.", "Two, three!", "4"]
    assert tokenizer.encode_many(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_many([]) == []


def test_one_letter(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("a") == [2, 1]


def test_brackets_are_read_alike(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("[a] {b}")) == "(a) (b)"


def test_a_dropped_character_is_named(tokenizer: Tokenizer) -> None:
    with pytest.warns(DroppedCharacters) as caught:
        ids = tokenizer.encode("a ☃ b☃~")
    assert [str(w.message) for w in caught] == [
        "dropped 3 characters the voice has no symbol for: '☃' (2), '~' (1)"
    ]
    assert caught[0].filename == __file__
    assert tokenizer.decode(ids) == "a b"


def test_padding_and_end_in_a_text_are_no_symbols(tokenizer: Tokenizer) -> None:
    with pytest.warns(DroppedCharacters, match="'_'"):
        ids = tokenizer.encode("a_b~", normalized=True)
    assert tokenizer.decode(ids) == "ab" and ids[-1] == 1 and ids.count(1) == 1 and 0 not in ids


def test_a_batch_warns_once(tokenizer: Tokenizer) -> None:
    with pytest.warns(DroppedCharacters) as caught:
        tokenizer.encode_many(["a☃", "b☃", "c\x00"])
    assert [str(w.message) for w in caught] == [
        "dropped 3 characters the voice has no symbol for: '☃' (2), '\\x00' (1)"
    ]


@pytest.mark.parametrize("text", ["", "  ", "?!", "☃", "_~", "\x00", "\ud800", "\u200b", "--"])
def test_nothing_to_speak(tokenizer: Tokenizer, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="nothing to speak in '"):
            tokenizer.encode(text)


def test_the_error_shows_the_start_of_a_long_text(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="nothing to speak in '") as caught:
        tokenizer.encode("?" * 5000)
    assert len(str(caught.value)) < 100


def test_five_thousand_characters(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("word " * 1000)) == 5000


def test_another_language_is_cleaned_only() -> None:
    german = Tokenizer(TextSettings(voice="de"))
    assert german.spoken(" Äpfel  Dr. ") == "Äpfel Dr."
    assert german.decode(german.encode(" Äpfel  Dr. ")) == "apfel dr."
    with pytest.warns(DroppedCharacters, match="'5'"):
        german.encode("5 Äpfel")


def test_unknown_symbols() -> None:
    with pytest.raises(ValueError, match="expected symbols characters or phonemes, got 'letters'"):
        Tokenizer(TextSettings(symbols="letters"))


def test_text_of_other_scripts_is_transliterated(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("Москва 你好")) == normalize("Москва 你好").lower()


def test_read_is_the_words_and_what_encode_drops(tokenizer: Tokenizer) -> None:
    assert tokenizer.read("Dr. Who, 1963") == ("Doctor Who, nineteen sixty-three", {})
    assert tokenizer.read("It costs £5.") == ("It costs five pounds.", {})
    _, dropped = tokenizer.read("Ünïcödé [1] ☃☃ \x07 ok")
    assert dropped == {"☃": 2, "\x07": 1}


def test_read_names_a_text_as_it_was_written(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"nothing to speak in '\u2026 \u2603'"):
        tokenizer.read("\u2026 \u2603")
