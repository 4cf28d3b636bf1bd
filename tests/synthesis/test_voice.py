"""An untrained voice: seeds, batches, long and short texts, warnings, errors."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacoskip.config import Config, load_config
from tacoskip.run_folder import build_tacotron
from tacoskip.synthesis.plot import plot_speech
from tacoskip.synthesis.voice import Speech, UnseenSymbols, Voice
from tacoskip.text import Tokenizer


@pytest.fixture(scope="module")
def voice() -> Voice:
    import torch

    torch.manual_seed(0)
    config: Config = load_config("smoke")
    model = build_tacotron(config, len(Tokenizer(config.text)), 2).eval()
    return Voice(model, config, ["anna", "ben"], frames_per_symbol=4.0)


def synthesize(voice: Voice, text: str, **options: Any) -> Speech:
    speech = voice.synthesize(text, **options)
    assert isinstance(speech, Speech)
    return speech


def test_same_seed_gives_same_samples(voice: Voice) -> None:
    a, b = synthesize(voice, "seven", seed=3), synthesize(voice, "seven", seed=3)
    assert a.wave.tobytes() == b.wave.tobytes()


def test_speakers_differ(voice: Voice) -> None:
    assert not np.array_equal(
        synthesize(voice, "one").mel, synthesize(voice, "one", speaker="ben").mel
    )
    assert np.array_equal(
        synthesize(voice, "one").mel, synthesize(voice, "one", speaker="anna").mel
    )


def test_batch_matches_single_texts(voice: Voice) -> None:
    texts = ["one", "a somewhat longer text than one.", "three"]
    together = voice.synthesize(texts)
    assert isinstance(together, list)
    for text, speech in zip(texts, together, strict=True):
        alone = synthesize(voice, text)
        assert speech.text == text
        np.testing.assert_allclose(speech.mel, alone.mel, atol=1e-4)
        np.testing.assert_allclose(speech.wave, alone.wave, atol=1e-3)


def test_long_text_is_split_into_sentences(voice: Voice) -> None:
    text = "This is one sentence. " * 228  # 5,016 characters
    speech = synthesize(voice, text)
    assert speech.alignment.shape[1] > 4000
    assert np.isfinite(speech.wave).all()
    assert any(w.startswith("sentence 1: ") for w in speech.warnings)


def test_one_letter_has_a_wave(voice: Voice) -> None:
    assert synthesize(voice, "a").seconds > 0


@pytest.fixture
def endless(voice: Voice) -> Iterator[Voice]:
    """The voice without a stop token. Untrained as it is, its attention drifts to the end."""
    import torch

    bias = voice.model.decoder.stop.bias
    before = bias.detach().clone()
    with torch.no_grad():
        bias.fill_(-50.0)
        yield voice
        bias.copy_(before)


def test_length_limit_grows_with_the_text(endless: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacoskip.synthesis.voice.REST_SECONDS", 1e3)
    short, long = (
        synthesize(endless, "one"),
        synthesize(endless, "one two three four five six seven"),
    )
    assert not short.stopped
    assert "speech did not stop by itself" in short.warnings
    assert short.mel.shape[0] < long.mel.shape[0] < 80 + 40 * 4 * 3


def test_attention_resting_on_the_last_symbol_ends_the_sentence(
    endless: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = synthesize(endless, "one")
    monkeypatch.setattr("tacoskip.synthesis.voice.REST_SECONDS", 1e3)
    cut = synthesize(endless, "one")
    assert ended.stopped
    assert "speech did not stop by itself" not in ended.warnings
    last = cut.alignment.argmax(1) == cut.alignment.shape[1] - 1
    seconds = endless.model.reduction / endless.config.audio.frames_per_second
    assert last[: len(ended.alignment)].sum() * seconds <= 0.5 < last.sum() * seconds


@pytest.mark.parametrize("text", ["", "   ", "...", "☃☃"])
def test_text_without_words_is_an_error(voice: Voice, text: str) -> None:
    with pytest.raises(ValueError, match="nothing to speak"):
        voice.synthesize(text)


def test_unknown_speaker_is_refused_with_the_nearest(voice: Voice) -> None:
    with pytest.raises(ValueError, match="unknown speaker 'bem'; did you mean 'ben'"):
        voice.synthesize("one", speaker="bem")


def test_stream_is_as_long_as_the_speech(voice: Voice) -> None:
    text = "The first. And then the second one."
    streamed = np.concatenate(list(voice.stream(text)))
    assert len(streamed) == len(synthesize(voice, text).wave)


def test_unseen_symbols_are_named_once(voice: Voice) -> None:
    symbols = voice.tokenizer.encode("one two")
    trained = Voice(voice.model, voice.config, voice.speakers, 4.0, symbols)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnseenSymbols)
        trained.synthesize("two one")
    with pytest.warns(UnseenSymbols, match="no training text has 'h', 'r': the voice"):
        trained.synthesize("three")


def test_plot_is_a_png_that_names_the_symbols(voice: Voice, tmp_path: Path) -> None:
    speech = synthesize(voice, "one two")
    assert speech.symbols == [*"one two", "~"] and speech.alignment.shape[1] == 8
    plot_speech(speech, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_lone_sign_with_an_espeak_name_has_a_wave() -> None:
    """A snowman alone once gave an empty batch."""
    pytest.importorskip("espeakng_loader")
    config = load_config("smoke", ["text.symbols=phonemes"])
    tokenizer = Tokenizer(config.text)
    model = build_tacotron(config, len(tokenizer), 1)
    assert synthesize(Voice(model.eval(), config, ["a"], 4.0), "\u2603").seconds > 0
