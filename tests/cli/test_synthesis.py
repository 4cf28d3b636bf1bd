"""`tacoskip synthesize` with a voice that returns tones: texts in, files and streams out."""

import io
import json
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from tacoskip.cli import app
from tacoskip.synthesis.speech import Speech
from tacoskip.timed_words import Word

RATE = 8000
CONTROLS: list[tuple[Any, ...]] = []


def tacoskip(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


class FakeVoice:
    """Says a text as a tone that lasts 0.01 s a character; prints and warns on the way."""

    sample_rate = RATE

    def tone(self, text: str, speaker: str | None, seed: int) -> NDArray[np.float32]:
        print("a library talks to stdout")
        if not any(c.isalpha() for c in text):
            raise ValueError(f"nothing to speak in {text!r}")
        if speaker not in (None, "anna"):
            raise ValueError(f"unknown speaker '{speaker}' (known: anna)")
        pitch = 200 + 10 * seed
        return np.sin(2 * np.pi * pitch * np.arange(80 * len(text)) / RATE, dtype=np.float32) / 2

    def synthesize(
        self, texts: list[str], speaker: str | None = None, seed: int = 0, *controls: Any
    ) -> list[Speech]:
        CONTROLS.append(controls)
        warnings.warn("dropped 1 characters", UserWarning, stacklevel=2)
        return [
            Speech(
                text=text,
                wave=self.tone(text, speaker, seed),
                sample_rate=RATE,
                mel=np.zeros((20, 4), dtype=np.float32),
                alignments=[np.eye(10, dtype=np.float32)],
                stopped="endless" not in text,
                warnings=["did not end by itself"] if "endless" in text else [],
                sentences=[Word(text, 0.0, 0.01 * len(text))],
                words=[Word(text, 0.0, 0.01 * len(text))],
            )
            for text in texts
        ]

    def stream(
        self, texts: list[str], speaker: str | None = None, seed: int = 0, *controls: Any
    ) -> Iterator[NDArray[np.float32]]:
        for number, text in enumerate(texts):
            yield np.zeros(round(0.4 * RATE) if number else 0, np.float32)
            yield from np.array_split(self.tone(text, speaker, seed), 3)


@pytest.fixture
def voice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder of its own, in which any RUN is a fake voice."""
    monkeypatch.setattr("tacoskip.loading.load_voice", lambda run, device: FakeVoice())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_output_takes_the_first_free_name(voice: Path) -> None:
    for name in ("speech.wav", "speech-2.wav", "speech-3.wav"):
        result = tacoskip("synthesize", "run", "hello there")
        assert (result.exit_code, result.stdout) == (0, "")
        assert f"wrote {name}" in result.stderr
        wave, rate = soundfile.read(voice / name)
        assert (len(wave), rate) == (80 * len("hello there"), RATE)


def test_replacing_a_file_is_logged(voice: Path) -> None:
    assert "wrote a.wav" in tacoskip("synthesize", "run", "hello", "-o", "a.wav").stderr
    assert "replaced a.wav" in tacoskip("synthesize", "run", "hello", "-o", "a.wav").stderr


def test_seed_changes_the_speech(voice: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        tacoskip("synthesize", "run", "hello", "-o", f"{name}.wav", "--seed", seed)
    a, b, c = (Path(f"{name}.wav").read_bytes() for name in "abc")
    assert a == b != c


def test_lines_of_a_file_are_joined_in_one_wav(voice: Path) -> None:
    Path("two.txt").write_bytes(b"\xef\xbb\xbfhello\r\n\r\n  there you are \r\n")
    assert tacoskip("synthesize", "run", "--file", "two.txt", "-o", "two.wav").exit_code == 0
    wave, _ = soundfile.read("two.wav")
    first, second = 80 * len("hello"), 80 * len("there you are")
    pause = len(wave) - first - second
    assert pause > 0
    assert np.abs(wave[first : first + pause]).max() == 0
    assert np.abs(wave[first + pause :]).max() > 0.4


def test_folder_output_has_one_file_a_line(voice: Path) -> None:
    lines = [f"line number {chr(97 + n)}" for n in range(20)]  # more than are spoken at once
    result = tacoskip("synthesize", "run", "-", "-o", "out", stdin="\n".join(lines).encode())
    assert result.exit_code == 0
    assert sorted(p.name for p in Path("out").iterdir()) == [f"{n:04d}.wav" for n in range(1, 21)]


def test_plots_are_written_beside_the_audio(voice: Path) -> None:
    tacoskip("synthesize", "run", "hello", "-o", "a.wav", "--plot")
    tacoskip("synthesize", "run", "-", "-o", "b.wav", "--plot", stdin=b"one\ntwo")
    for name in ("a.png", "b-0001.png", "b-0002.png"):
        assert Path(name).read_bytes().startswith(b"\x89PNG")


def test_each_warning_is_logged_once(voice: Path) -> None:
    result = tacoskip("synthesize", "run", "-", "-o", "a.wav", stdin=b"an endless text\n" * 17)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert lines.count("warning: dropped 1 characters") == 1
    assert "warning: 'an endless text': did not end by itself" in lines


def test_json_is_alone_on_stdout(voice: Path) -> None:
    result = tacoskip("synthesize", "run", "endless", "-o", "a.wav", "--plot", "--json")
    output = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert output["sample_rate"] == RATE
    (speech,) = output["speech"]
    assert (speech["file"], speech["plot"], speech["stopped"]) == ("a.wav", "a.png", False)
    assert speech["seconds"] == pytest.approx(0.07)
    assert "a library talks to stdout" in result.stderr


def test_stream_is_a_wav_and_nothing_else(voice: Path) -> None:
    result = tacoskip("synthesize", "run", "-", "-o", "-", stdin=b"hello\nthere")
    wave, rate = soundfile.read(io.BytesIO(result.stdout_bytes))
    tacoskip("synthesize", "run", "-", "-o", "whole.wav", stdin=b"hello\nthere")
    whole, _ = soundfile.read("whole.wav")
    assert rate == RATE
    np.testing.assert_array_equal(wave, whole)
    assert sorted(p.name for p in voice.iterdir()) == ["whole.wav"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["hello", "--file", "x.txt"], None, "got a text and --file"),
        ([], None, "got none of them"),
        (["--file", "txet.txt"], None, "no such file: txet.txt; did you mean 'text.txt'?"),
        (["-"], b"\n \n", "standard input: expected a line of text, got none"),
        (["-"], b"caf\xe9", "expected UTF-8 text, got byte 0xe9 at 3"),
        ([""], None, "nothing to speak in ''"),
        (["?!"], None, "nothing to speak in '?!'"),
        (["?!", "-o", "-"], None, "nothing to speak in '?!'"),
        (["hello", "-s", "bob"], None, "unknown speaker 'bob' (known: anna)"),
        (["hello", "-o", "a.mp3"], None, "expected -o FILE.wav, FILE.flac, a folder or -"),
        (["hello", "-o", "text.txt"], None, "expected -o FILE.wav, FILE.flac, a folder or -"),
        (["hello", "-o", "plain"], None, "got the file 'plain'"),
        (["hello", "-o", "/dev/null"], None, "got the file '/dev/null'"),
        (["hello", "-o", "gone/a.wav"], None, "no folder 'gone'"),
        (["hello", "-o", "dir.wav"], None, "expected a file for -o dir.wav, got a folder"),
        (["hello", "-o", "-", "--plot"], None, "expected -o FILE with --plot, --json"),
        (["hello", "-o", "-", "--json"], None, "expected -o FILE with --plot, --json"),
        (["hello", "-o", "-", "--lufs", "-20"], None, "expected -o FILE with --plot, --json"),
        (["hello", "--lexicon", "gone.txt"], None, "gone.txt: no such lexicon file"),
    ],
)
def test_wrong_text_or_output_is_refused(
    voice: Path, arguments: list[str], stdin: bytes | None, message: str
) -> None:
    Path("text.txt").write_text("hello")
    Path("plain").write_text("hello")
    Path("dir.wav").mkdir()
    before = sorted(voice.iterdir())
    result = tacoskip("synthesize", "run", *arguments, stdin=stdin)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(lines) == 1
    assert message in lines[0]
    assert sorted(voice.iterdir()) == before


def test_controls_reach_the_voice(voice: Path) -> None:
    Path("words.txt").write_text("Nguyen win\n")
    options = ["--speed", "1.5", "--lufs", "-20", "--trim", "--lexicon", "words.txt"]
    assert tacoskip("synthesize", "run", "hello", "-o", "a.wav", *options).exit_code == 0
    assert CONTROLS[-1] == (1.5, {"Nguyen": "win"}, True, -20.0)


def test_times_are_written_beside_the_audio(voice: Path) -> None:
    text = b"hello\nthere you are"
    for kind in ("srt", "vtt", "json"):
        result = tacoskip("synthesize", "run", "-", "-o", "a.wav", "--times", kind, stdin=text)
        assert f"wrote a.{kind}" in result.stderr
    srt = "1\n00:00:00,000 --> 00:00:00,580\nhello there you are\n"
    assert Path("a.srt").read_text() == srt
    assert Path("a.vtt").read_text().startswith("WEBVTT")
    rows = json.loads(Path("a.json").read_text())
    assert rows["words"][1] == {"text": "there you are", "start": 0.45, "end": 0.58}
    assert len(rows["sentences"]) == 2
    tacoskip("synthesize", "run", "-", "-o", "out", "--times", "vtt", stdin=text)
    names = ["0001.vtt", "0001.wav", "0002.vtt", "0002.wav"]
    assert sorted(path.name for path in Path("out").iterdir()) == names


@pytest.mark.hostile
def test_texts_come_from_pipes_and_names_may_be_long(voice: Path) -> None:
    os.mkfifo("pipe")
    threading.Thread(target=Path("pipe").write_text, args=["hello"], daemon=True).start()
    name = "n" * 246 + ".wav"
    assert tacoskip("synthesize", "run", "--file", "pipe", "-o", name).exit_code == 0
    assert len(soundfile.read(name)[0]) == 80 * len("hello")


@pytest.mark.hostile
def test_endless_input_is_refused(voice: Path) -> None:
    result = tacoskip("synthesize", "run", "--file", "/dev/zero", "-o", "a.wav")
    assert result.exit_code == 2 and "/dev/zero: expected at most 100,000,000" in result.stderr
