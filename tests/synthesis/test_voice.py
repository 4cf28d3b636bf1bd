"""An untrained voice: seeds, batches, long and short texts, warnings, errors."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tacoskip.audio.loudness import loudness
from tacoskip.audio.trim import trim_silence
from tacoskip.config import Config, load_config
from tacoskip.run_folder import build_tacotron
from tacoskip.synthesis.plot import plot_speech
from tacoskip.synthesis.speech import Speech, spoken_words
from tacoskip.synthesis.voice import UnseenSymbols, Voice, stretch
from tacoskip.text import Tokenizer
from tacoskip.timed_words import Word


@pytest.fixture(scope="module")
def voice() -> Voice:
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


@pytest.mark.hostile
def test_long_text_takes_memory_in_proportion(voice: Voice, tmp_path: Path) -> None:
    """The attention to all symbols at once would be a matrix of 9 GB at 30,000 characters."""
    text = "This is one sentence. " * 60
    speech = synthesize(voice, text)
    assert len(speech.sentences) == len(speech.alignments) == 60
    assert sum(one.shape[1] for one in speech.alignments) == len(speech.symbols) > 1000
    assert max(one.size for one in speech.alignments) < 10_000
    assert np.isfinite(speech.wave).all()
    assert any(w.startswith("sentence 1: ") for w in speech.warnings)
    assert speech.sentences[-1].end == pytest.approx(speech.seconds)
    plot_speech(speech, tmp_path / "long.png")
    assert (tmp_path / "long.png").read_bytes().startswith(b"\x89PNG")


def test_one_letter_has_a_wave(voice: Voice) -> None:
    assert synthesize(voice, "a").seconds > 0


@pytest.fixture
def endless(voice: Voice) -> Iterator[Voice]:
    """The voice without a stop token. Untrained as it is, its attention drifts to the end."""
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
    both = np.concatenate(list(voice.stream(["one", text])))
    assert len(both) == len(synthesize(voice, "one").wave) + round(0.4 * 8000) + len(streamed)


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


def test_plot_gives_the_mel_its_own_seconds(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause of the text has samples, and no frames."""
    figures = list[Any]()
    monkeypatch.setattr("tacoskip.synthesis.plot.save_figure", lambda *args: figures.append(args))
    speech = synthesize(voice, "one [pause 5s] two")
    plot_speech(speech, "a.png")
    (picture,) = figures[0][0].axes[0].images
    assert picture.get_extent()[1] == pytest.approx(speech.seconds - 5, abs=1e-3)


def test_lone_sign_with_an_espeak_name_has_a_wave() -> None:
    """A snowman alone once gave an empty batch."""
    pytest.importorskip("espeakng_loader", reason="the espeak extra is not installed")
    config = load_config("smoke", ["text.symbols=phonemes"])
    tokenizer = Tokenizer(config.text)
    model = build_tacotron(config, len(tokenizer), 1)
    assert synthesize(Voice(model.eval(), config, ["a"], 4.0), "\u2603").seconds > 0


# Controls


def test_speed_changes_the_length_and_keeps_the_pitch(voice: Voice) -> None:
    time = np.arange(8000) / 8000
    tone = torch.from_numpy(np.sin(2 * np.pi * 440 * time).astype(np.float32))
    linear = voice.front_end.features(tone)[0]
    for speed in (0.5, 2.0):
        wave = voice.front_end.to_wave(stretch(linear, speed)[None])[0].numpy()
        assert len(wave) == pytest.approx(8000 / speed, abs=300)
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
        assert spectrum.argmax() * 8000 / len(wave) == pytest.approx(440, abs=5)
    normal, slow = synthesize(voice, "one two"), synthesize(voice, "one two", speed=0.5)
    assert slow.seconds == pytest.approx(2 * normal.seconds, abs=0.02)  # a frame is 12.5 ms
    assert slow.words[-1].end == pytest.approx(2 * normal.words[-1].end, abs=0.02)
    streamed = np.concatenate(list(voice.stream("one two", speed=0.5)))
    assert len(streamed) == len(slow.wave)


def test_pauses_are_silent_and_as_long_as_they_say(voice: Voice) -> None:
    first, second = synthesize(voice, "one two"), synthesize(voice, "three")
    text = '[pause 0.25s] one two <break time="500ms"/> [pause 1s] three [pause 0.1s]'
    speech = synthesize(voice, text)
    lengths = [2000, len(first.wave), 12000, len(second.wave), 800]
    assert len(speech.wave) == sum(lengths)
    start, end = 2000 + lengths[1], 2000 + lengths[1] + 12000
    assert np.abs(speech.wave[start:end]).max() == 0 < np.abs(speech.wave[end:]).max()
    assert [word.text for word in speech.words] == ["one", "two", "three"]
    assert speech.sentences[1].start == pytest.approx(end / 8000)
    assert len(np.concatenate(list(voice.stream(text)))) == len(speech.wave)


def test_words_follow_the_attention(voice: Voice) -> None:
    symbols = [*"hi, 2 you", "~"]
    steps = np.repeat(np.arange(len(symbols)), 3)
    alignment = np.eye(len(symbols), dtype=np.float32)[steps]
    found = spoken_words(alignment, symbols, 0.1, ["Hi,", "2", "you"])
    assert [word.text for word in found] == ["Hi,", "2", "you"]
    assert [word.start for word in found] == pytest.approx([0.05, 1.25, 1.85])
    assert [word.end for word in found] == pytest.approx([0.95, 1.55, 2.75])
    marked = spoken_words(alignment, symbols, 0.1, ["[[hi]],", "2", "you"])
    assert marked[0] == Word("hi,", pytest.approx(0.05), pytest.approx(0.95))
    joined = spoken_words(alignment, symbols, 0.1, ["one"])
    assert [word.text for word in joined] == ["hi,", "2", "you"]
    # "2 you" spoken as one, as espeak does with "in the"
    joined = spoken_words(alignment, [*"hi, 22you", "~"], 0.1, ["hi,", "2", "you"])
    assert [word.text for word in joined] == ["hi,", "2", "you"]
    assert joined[1].end == joined[2].start == pytest.approx(1.25 + 1.5 / 4)
    speech = synthesize(voice, "Number 2. And the second sentence!")
    assert [word.text for word in speech.words][:3] == ["Number", "two.", "And"]
    times = [at for word in speech.words for at in (word.start, word.end)]
    assert times == sorted(times) and times[-1] <= speech.seconds


def test_words_of_durations_begin_with_a_step() -> None:
    config = load_config("smoke", ["tts.attention=durations"])
    model = build_tacotron(config, len(Tokenizer(config.text)), 1).eval()
    speech = synthesize(Voice(model, config, ["a"], 4.0), "one two")
    assert speech.words[0].start == 0
    step = model.reduction / config.audio.frames_per_second
    assert speech.words[1].start / step == pytest.approx(round(speech.words[1].start / step))


def test_lexicon_respells_words(voice: Voice) -> None:
    respelled = synthesize(voice, "one Nguyen", lexicon={"nguyen": "win"})
    assert respelled.wave.tobytes() == synthesize(voice, "one win").wave.tobytes()
    with pytest.raises(ValueError, match="this voice reads characters, not phonemes"):
        synthesize(voice, "one [[win]]")


def test_trim_and_loudness(voice: Voice) -> None:
    whole, short = synthesize(voice, "one two."), synthesize(voice, "one two.", trim=True)
    start, end = trim_silence(whole.wave, 8000)
    np.testing.assert_array_equal(short.wave, whole.wave[start:end])
    assert short.words[-1].end <= short.seconds
    for lufs in (-30.0, -23.0):
        quiet = synthesize(voice, "one two.", lufs=lufs)
        assert loudness(quiet.wave, 8000) == pytest.approx(lufs, abs=0.1)
    loud = synthesize(voice, "one two.", lufs=0.0)
    assert np.abs(loud.wave).max() <= 0.99 and "peaks allow" in loud.warnings[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 0.4}, "expected speed=0.5 to 2, got 0.4"),
        ({"speed": float("nan")}, "expected speed=0.5 to 2, got nan"),
        ({"lufs": 3.0}, "expected lufs=-70 to 0, got 3"),
        ({"text": "one [pause soon]"}, "expected \\[pause 0.5s\\]"),
    ],
)
def test_control_out_of_range_is_refused(
    voice: Voice, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        voice.synthesize(**{"text": "one"} | options)
