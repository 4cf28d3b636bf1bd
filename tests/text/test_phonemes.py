"""Phonemes by espeak-ng, and what happens without it."""

import sys

import pytest

from tacoskip.text import DroppedCharacters, TextSettings, Tokenizer, phonemes
from tacoskip.text.symbols import PHONEMES

with_espeak = pytest.mark.skipif(
    not phonemes.available(), reason="the espeak extra is not installed"
)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(TextSettings(symbols="phonemes"))


def test_the_table_is_fixed_and_needs_no_espeak(tokenizer: Tokenizer) -> None:
    assert tokenizer.symbols[:3] == ["_", "~", " "]
    assert len(set(PHONEMES)) == len(PHONEMES) == len(tokenizer)
    assert all(len(symbol) == 1 for symbol in PHONEMES)


@with_espeak
@pytest.mark.parametrize(
    ("text", "ipa"),
    [
        ("Hello, world!", "həlˈoʊ, wˈɜːld!"),
        ('Stop. "Why?" (yes): no; go...', 'stˈɑːp. "wˈaɪ?" (jˈɛs): nˈoʊ; ɡˈoʊ...'),
        ("twenty-five", "twˈɛntifˈaɪv"),
        ("A.M. and FBI", "ˌeɪˈɛm ænd ˌɛfbˌiːˈaɪ"),
        ("[a test]", "(ɐ tˈɛst)"),
        ("a -- b", "ˈeɪ -- bˈiː"),
    ],
)
def test_reading(tokenizer: Tokenizer, text: str, ipa: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == ipa


@with_espeak
def test_a_batch_keeps_its_order(tokenizer: Tokenizer) -> None:
    # phonemizer's own punctuation handling moves texts that are marks alone, or empty.
    texts = ["... well.", "!? one", "two ...", "(three)", "'four'", "five"]
    assert tokenizer.encode_many(texts) == [tokenizer.encode(text) for text in texts]


@with_espeak
def test_what_espeak_cannot_say_is_named(tokenizer: Tokenizer) -> None:
    with pytest.warns(DroppedCharacters) as caught:
        ids = tokenizer.encode("a | b\x00c \ud800")
    assert "'|' (1)" in str(caught[0].message) and "'\\x00' (1)" in str(caught[0].message)
    # Behind a zero espeak would read nothing more.
    assert tokenizer.decode(ids).endswith("sˈiː")


@with_espeak
def test_nothing_to_speak(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="nothing to speak in"):
        tokenizer.encode("?! --")


@with_espeak
def test_another_language_reads_its_own_numbers() -> None:
    german = Tokenizer(TextSettings(symbols="phonemes", voice="de"))
    # One comma is a pause, the other is read out.
    assert german.decode(german.encode("„Fünf“, 1,5")) == '"fˈʏnf", ˈaɪns kɔmɑː fˈʏnf'


@with_espeak
def test_accents_of_phonemes_are_symbols_of_their_own() -> None:
    french = Tokenizer(TextSettings(symbols="phonemes", voice="fr-fr"))
    assert french.decode(french.encode("bon vin")) == "bˈɔ\u0303 vˈɛ\u0303"
    german = Tokenizer(TextSettings(symbols="phonemes", voice="de"))
    assert "c\u0327" in german.decode(german.encode("ich"))


@with_espeak
def test_unknown_voice_names_near_ones() -> None:
    with pytest.raises(ValueError, match=r"espeak has no voice 'en-uk'; did you mean .*en-us"):
        Tokenizer(TextSettings(symbols="phonemes", voice="en-uk")).encode("a")


def test_without_the_extra(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    phonemes.backend.cache_clear()
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ValueError, match=r"pip install 'tacoskip\[espeak\]'") as caught:
        tokenizer.encode("a")
    assert "\n" not in str(caught.value)
