"""Pauses, phonemes and a lexicon in a text."""

from pathlib import Path

import pytest

from tacoskip.text import TextSettings, Tokenizer, normalize, phonemes
from tacoskip.text.markup import LARGEST_LEXICON, Part, parse, read_lexicon


def spoken_and_pauses(parts: list[Part]) -> list[str | float]:
    return [part.text or part.pause_seconds for part in parts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there.", ["Hello there."]),
        ("One [pause 0.5s] two.", ["One", 0.5, "two."]),
        ('One <break time="500ms"/>two <BREAK time=".2s" > .', ["One", 0.5, "two", 0.2]),
        ("[pause 1 s][pause 250ms] One", [1.0, 0.25, "One"]),
        ("a [pause] [pauses 1s] <b>", ["a [pause] [pauses 1s] <b>"]),
        ("I like [[ˈɡaʊdə tʃiːz]].", ["I like [[ˈɡaʊdə]] [[tʃiːz]]."]),
        ("[[ˈænə]]'s [[kˈæt]]’s [[ɹˈoʊz]]'s", ["[[ˈænəz]] [[kˈæts]] [[ɹˈoʊzᵻz]]"]),
        ("☃ [pause 1s]", ["☃", 1.0]),
    ],
)
def test_parts(text: str, expected: list[str | float]) -> None:
    assert spoken_and_pauses(parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a [pause 5] b", r"expected \[pause 0.5s\] or <break .*, got '\[pause 5\]'"),
        ("a <break/> b", "got '<break/>'"),
        ("a [pause 61s] b", "at most 60 s"),
        ("[pause 1s]", "nothing to speak"),
        ("  ", "nothing to speak"),
    ],
)
def test_invalid_marks_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_lexicon_respells_words_outside_marks(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_text(
        "# names\ngouda\t[[ˈɡaʊdə]]\nSQL  sequel\n\npause paws\nnguyen's nwins\n", "utf-8"
    )
    lexicon = read_lexicon(path)
    assert lexicon["gouda"] == "[[ˈɡaʊdə]]" and len(lexicon) == 4
    text = "Gouda, gouda's SQL-based sql. [pause 1s] Nguyen's pause [[pause]]"
    assert spoken_and_pauses(parse(text, lexicon)) == [
        "[[ˈɡaʊdə]], [[ˈɡaʊdəz]] sequel-based sql.",
        1.0,
        "nwins paws [[pause]]",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a b\nlonely\n", "line 2: expected a word and its respelling"),
        ("a b\n\na c\n", "line 3: a second entry for 'a'"),
        ("a [[x\n", r"line 1: expected phonemes as \[\[...\]\]"),
        ("a\udcff", "expected UTF-8 text, got byte 0xff at 1"),
        ("#" * (LARGEST_LEXICON + 1), "at most 1,000,000 bytes"),
        (None, "no such lexicon file"),
    ],
)
def test_invalid_lexicon_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "lexicon.tsv"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message) as refused:
        read_lexicon(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_normalize_leaves_phonemes() -> None:
    assert normalize("Dr. [[ˈɡaʊdə 5]] has 5 [[x]].") == "Doctor [[ˈɡaʊdə 5]] has five [[x]]."


def test_voice_of_characters_refuses_phonemes() -> None:
    with pytest.raises(ValueError, match=r"\[\[x\]\]: this voice reads characters, not phonemes"):
        Tokenizer().encode("a [[x]] b")


@pytest.mark.skipif(not phonemes.available(), reason="the espeak extra is not installed")
def test_voice_of_phonemes_takes_them_as_written() -> None:
    tokenizer = Tokenizer(TextSettings(symbols="phonemes"))
    ids = tokenizer.encode("I like [[ˈɡaʊdə]], 5 [[ˈtʃiː zəz]]. [x]")
    assert tokenizer.decode(ids) == "aɪ lˈaɪk ˈɡaʊdə, fˈaɪv ˈtʃiː zəz. (ˈɛks)"
