"""A recognizer on files of any rate and length, alone and together, readable or not."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tacoskip.config import load_config
from tacoskip.recognition.decode import greedy
from tacoskip.recognition.recognizer import SpeechRecognizer
from tacoskip.recognition.transcript import words_of
from tacoskip.run_folder import build_recognizer
from tacoskip.text.subwords import Characters

RATE = 8000


@pytest.fixture(scope="module")
def recognizer() -> SpeechRecognizer:
    """Random weights, scaled up so that the text depends on the sound."""
    torch.manual_seed(0)
    config = load_config("smoke_asr")
    model = build_recognizer(config, 29)
    with torch.no_grad():
        model.output.weight.mul_(20)
    return SpeechRecognizer(model, config, Characters())


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = np.interp(
        np.arange(int(seconds * RATE)),
        np.arange(0, seconds * RATE, 800),
        rng.random(len(np.arange(0, seconds * RATE, 800))),
    )
    return (0.3 * level * rng.standard_normal(len(level))).astype(np.float32)


def test_batched_files_match_single_files(recognizer: SpeechRecognizer, tmp_path: Path) -> None:
    paths = []
    for number, seconds in enumerate((0.4, 3.0, 45.0, 1.5)):
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], sound(seconds, number), RATE)
    together = list(recognizer.transcribe_files(paths))
    assert [t.seconds for t in together] == [0.4, 3.0, 45.0, 1.5]
    for path, transcript in zip(paths, together, strict=True):
        assert transcript.text and transcript.text == recognizer.transcribe(path).text
        assert transcript.source == str(path)
        assert 0 < transcript.confidence <= 1


def test_short_file_matches_its_wave(recognizer: SpeechRecognizer, tmp_path: Path) -> None:
    wave = sound(4.0)
    soundfile.write(tmp_path / "a.flac", wave, RATE, subtype="PCM_24")
    (log_probs,) = recognizer.posteriors([wave])
    expected = words_of(greedy(log_probs), recognizer.vocabulary.symbols, recognizer.frame_seconds)
    assert recognizer.transcribe(wave).text == " ".join(word.text for word in expected)
    assert recognizer.transcribe(tmp_path / "a.flac").text == recognizer.transcribe(wave).text


def test_windows_match_the_whole_recording(recognizer: SpeechRecognizer, tmp_path: Path) -> None:
    """Not exactly: each window is normalised by itself and its context ends."""
    wave = sound(40.0)
    (whole,) = recognizer.posteriors([wave])
    from tacoskip.recognition.long_audio import windows

    found = [
        recognizer.posteriors([w.wave])[0][w.keep : w.end]
        for w in windows([wave], RATE, recognizer.frame_samples)
    ]
    stitched = torch.cat(found)
    assert stitched.shape == whole.shape
    agree = (stitched.argmax(1) == whole.argmax(1)).float().mean()
    assert agree > 0.8  # by chance 1 in 29


def test_word_times_grow_within_the_recording(recognizer: SpeechRecognizer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound(50.0), RATE)
    found = recognizer.transcribe(tmp_path / "a.wav")
    starts = [word.start for word in found.words]
    assert starts == sorted(starts) and found.words[-1].end <= 50.0 + recognizer.frame_seconds
    assert starts[-1] > 30


def test_other_rate_and_stereo_give_the_same_text(
    recognizer: SpeechRecognizer, tmp_path: Path
) -> None:
    import soxr

    wave = sound(2.0)
    # Band-limited, so that nothing is lost on the way.
    wave = soxr.resample(soxr.resample(wave, RATE, RATE // 2), RATE // 2, RATE)
    faster = soxr.resample(wave, RATE, 44100)
    soundfile.write(tmp_path / "a.wav", np.stack([faster, faster], 1), 44100, subtype="FLOAT")
    found = recognizer.transcribe(tmp_path / "a.wav")
    assert found.seconds == pytest.approx(2.0, abs=0.01)
    assert found.text[:5] == recognizer.transcribe(wave).text[:5]


def test_unreadable_files_get_one_line_and_stop_no_other(
    recognizer: SpeechRecognizer, tmp_path: Path
) -> None:
    (tmp_path / "text.wav").write_text("no sound\n")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "broken.mp3").write_bytes(b"ID3" + bytes(100))
    soundfile.write(tmp_path / "nan.wav", np.full(800, np.nan), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "good.wav", sound(1.0), RATE)
    names = ["text.wav", "good.wav", "empty.wav", "broken.mp3", "none.wav", "nan.wav", "good.wav"]
    found = list(recognizer.transcribe_files([tmp_path / name for name in names]))
    assert [bool(t.error) for t in found] == [name != "good.wav" for name in names]
    for name, transcript in zip(names, found, strict=True):
        if transcript.error:
            assert name in transcript.error and "\n" not in transcript.error
            assert transcript.text == ""
    assert found[1].text == found[6].text != ""
    with pytest.raises(ValueError, match=r"none.wav: no such file"):
        recognizer.transcribe(tmp_path / "none.wav")


def test_file_damaged_near_its_end_has_no_text(
    recognizer: SpeechRecognizer, tmp_path: Path
) -> None:
    wave = sound(60.0)
    wave[-10:] = np.inf
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", sound(1.0), RATE)
    broken, good = recognizer.transcribe_files([tmp_path / "a.wav", tmp_path / "b.wav"])
    assert "NaN or infinite" in broken.error and broken.text == ""
    assert good.text


@pytest.mark.parametrize("wave", [np.zeros(0), np.zeros((2, 800)), np.zeros(800, int), ["a"]])
def test_invalid_wave_is_refused(recognizer: SpeechRecognizer, wave: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a wave \(N,\)"):
        recognizer.transcribe(wave)


@pytest.mark.hostile
def test_samples_and_rates_out_of_bounds_are_refused(recognizer: SpeechRecognizer) -> None:
    with pytest.raises(ValueError, match="expected finite samples, got 1 NaN"):
        recognizer.transcribe(np.array([0.0, np.nan, 0.1]))
    for rate in (0, -1, float("nan"), 10**12):
        with pytest.raises(ValueError, match="expected a sample rate of 1000 to 1000000 Hz"):
            recognizer.transcribe(np.zeros(800), rate)
    assert recognizer.transcribe(torch.zeros(RATE, requires_grad=True)).seconds == 1.0


def test_silence_has_a_transcript(recognizer: SpeechRecognizer) -> None:
    assert recognizer.transcribe(np.zeros(RATE, np.float32)).seconds == 1.0


def test_alignment_returns_the_text_in_order(recognizer: SpeechRecognizer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound(30.0), RATE)
    found = recognizer.align(tmp_path / "a.wav", "One, two -- three!")
    assert [word.text for word in found.words] == ["one", "two", "three"]
    times = [t for word in found.words for s in word.characters for t in (s.start, s.end)]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= 30.1
    assert found.seconds == 30.0
    assert all(0 <= word.confidence <= 1 for word in found.words)


def test_impossible_alignment_is_refused(recognizer: SpeechRecognizer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound(0.2), RATE)
    with pytest.raises(ValueError, match="too short for the text: 11 frames"):
        recognizer.align(tmp_path / "a.wav", "this is a long text")
    with pytest.raises(ValueError, match="expected a text with letters"):
        recognizer.align(tmp_path / "a.wav", "...")


@pytest.mark.usefixtures("flashlight")
def test_attention_decoder_matches_alone_and_batched(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = load_config("smoke_asr", ["asr.decoder=attention", "asr.decoder_channels=8"])
    hybrid = SpeechRecognizer(build_recognizer(config, 29), config, Characters())
    with torch.no_grad():
        hybrid.model.output.weight.mul_(20)
    assert hybrid.decoding == "beam 8, rescored"
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for number, path in enumerate(paths):
        soundfile.write(path, sound(21.0 if number else 2.0, number), RATE)
    together = list(hybrid.transcribe_files(paths))
    assert [t.text for t in together] == [hybrid.transcribe(path).text for path in paths]
    assert together[0].text


@pytest.mark.hostile
def test_posteriors_that_are_not_finite_are_an_error(recognizer: SpeechRecognizer) -> None:
    """Weights may be finite and too large to compute with."""
    broken = copy.deepcopy(recognizer)
    for weight in broken.model.parameters():
        weight.data.fill_(3e38)
    with pytest.raises(ValueError, match="expected finite posteriors, got NaN"):
        broken.transcribe(sound(0.4))
