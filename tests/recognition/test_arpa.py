"""ARPA files that are none are refused before KenLM, which crashes on some, sees them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tacoskip.recognition.arpa import arpa_words
from tacoskip.recognition.beam import BeamDecoder, BeamSettings
from tacoskip.recognition.ngram import NGram
from tacoskip.text.subwords import Characters

TEXT = [["the", "cat"], ["a", "cat", "sat"], ["the", "dog"]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    NGram(TEXT, 3).write(tmp_path / "lm.arpa")
    return tmp_path / "lm.arpa"


@pytest.mark.usefixtures("flashlight")
def test_a_sound_model_is_read_whole(model: Path) -> None:
    words = sorted({word for sentence in TEXT for word in sentence})
    assert sorted(arpa_words(model)) == words
    model.write_bytes(model.read_bytes().replace(b"\n", b"\r\n"))
    assert sorted(arpa_words(model)) == words
    BeamDecoder(Characters(), BeamSettings(3, str(model)))(torch.randn(9, 29).log_softmax(-1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: "", "ends too soon"),
        (lambda t: t.replace("\\data", "data"), r"got 'data\\' in line 1"),
        (lambda t: t.replace("ngram 1=", "ngram 1=-"), "got 'ngram 1=-8' in line 2"),
        (lambda t: t.replace("ngram 2=", "ngram 2=99999999999"), "3-grams:"),
        (lambda t: t.replace("ngram 1=8", "ngram 1=3"), "in line"),
        (lambda t: t.replace("ngram 2", "ngram 5"), "in line 3"),
        (lambda t: t[: len(t) // 2], "ends too soon"),
        (lambda t: t.replace("\\end", "end"), r"got 'end\\'"),
        (lambda t: t.replace("\tcat", "\t" + "c" * 100_000), "in line"),
        (lambda t: t.replace("\tcat", "\tc\0t"), "in line"),
        (lambda t: t.replace("-0.", "nan", 1), "in line"),
        (lambda t: t.replace("-0.", "0.", 1), "in line"),
        (lambda t: t.replace("-0.", "-1e999", 1), "in line"),
        (lambda t: t.replace("\t", " "), "in line"),
        (lambda t: t.replace("the cat", "the cat sat"), "the cat sat"),
        (lambda t: t + "\0" * 10_000, "got more behind its end"),
    ],
)
def test_invalid_arpa_file_is_refused(
    model: Path, change: Callable[[str], str], message: str
) -> None:
    model.write_text(change(model.read_text()))
    with pytest.raises(ValueError, match="expected an ARPA language model") as refused:
        BeamDecoder(Characters(), BeamSettings(3, str(model)))
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert str(model) in str(refused.value) and len(str(refused.value)) < 300


@pytest.mark.usefixtures("flashlight")
def test_errors_only_kenlm_finds_are_one_line(model: Path) -> None:
    model.write_text(model.read_text().replace("\tcat", "\tdog"))
    with pytest.raises(ValueError, match="not readable as ARPA") as refused:
        BeamDecoder(Characters(), BeamSettings(3, str(model)))
    assert "\n" not in str(refused.value) and ".hh" not in str(refused.value)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacoskip.recognition.beam.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs flashlight-text.* or --beam 0"):
        BeamDecoder(Characters(), BeamSettings(3))
