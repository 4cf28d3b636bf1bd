"""The commands as a user meets them: exit codes, one-line errors, what stands on which stream."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from tacoskip.cli import app
from tacoskip.inference import Speech

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ["prepare", "train", "synthesize", "evaluate", "board", "blocks", "doctor"]
RATE = 8000


def tacoskip(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


def refused(result: Result, code: int = 2) -> str:
    """The one line on stderr of a command that was refused, with nothing on stdout."""
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


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
        self, texts: list[str], speaker: str | None = None, seed: int = 0
    ) -> list[Speech]:
        warnings.warn("dropped 1 characters", UserWarning, stacklevel=2)
        return [
            Speech(
                text=text,
                wave=self.tone(text, speaker, seed),
                sample_rate=RATE,
                mel=np.zeros((20, 4), dtype=np.float32),
                alignment=np.eye(10, dtype=np.float32),
                stopped="endless" not in text,
                warnings=["did not end by itself"] if "endless" in text else [],
            )
            for text in texts
        ]

    def stream(
        self, text: str, speaker: str | None = None, seed: int = 0
    ) -> Iterator[NDArray[np.float32]]:
        yield from np.array_split(self.tone(text, speaker, seed), 3)


@pytest.fixture
def voice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder of its own, in which any RUN is a fake voice."""
    monkeypatch.setattr("tacoskip.inference.load", lambda run: FakeVoice())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_lists_the_promised_commands() -> None:
    result = tacoskip("--help")
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.stdout.split("Commands:")[1].splitlines() if line]
    assert listed[: len(COMMANDS)] == COMMANDS
    for command in COMMANDS:
        assert tacoskip(command, "--help").exit_code == 0


def test_help_imports_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "omegaconf", "rich", "lhotse", "librosa", "matplotlib", "scipy"]
    script = (
        "import sys\nfrom tacoskip.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        f"print('heavy:', [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stderr


def test_an_unknown_command_or_option_is_refused() -> None:
    for arguments in (["transcribble"], ["train", "--resume"], ["synthesize"]):
        result = tacoskip(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Traceback" not in result.stderr


def test_the_root_script_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "cli.py", "--version"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.startswith("tacoskip 0.")


@pytest.mark.parametrize("command", ["prepare", "train"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected recipe=NAME, got none (known: demo"),
        (["recipe=ljspech"], "did you mean 'ljspeech'?"),
        (["recipe=smoke", "train.max_step=5"], "did you mean 'train.max_steps'?"),
        (["recipe=smoke", "train.max_steps=many"], "expected a whole number"),
        (["recipe=smoke", "data.corpus=ljspech"], "did you mean 'ljspeech'?"),
        (["recipe=smoke", "block"], "expected key=value, got 'block'"),
        (["recipe=smoke", "data.root=nowhere/at/all"], "no folder 'nowhere/at/all' (data.root)"),
    ],
)
def test_a_wrong_request_is_one_line_and_code_2(
    command: str, arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(tacoskip(command, *arguments))
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_a_corpus_folder_nearby_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corpora/fsdd").mkdir(parents=True)
    said = refused(tacoskip("prepare", "recipe=fsdd", "data.root=corpora/fssd"))
    assert "did you mean 'corpora/fsdd'?" in said


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("expected\n  this"), 2, "error: expected this"),
        (FileNotFoundError(2, "No such file", "x.wav"), 2, "error: x.wav: No such file"),
        (RuntimeError("out of memory"), 1, "error: out of memory"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device"),
        (KeyError("mel"), 1, "error: KeyError: 'mel' (TACOSKIP_DEBUG=1 shows where)"),
    ],
)
def test_an_exception_becomes_a_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str
) -> None:
    def fail() -> list[Any]:
        raise error

    monkeypatch.setattr("tacoskip.doctor.examine", fail)
    monkeypatch.delenv("TACOSKIP_DEBUG", raising=False)
    assert refused(tacoskip("doctor"), code).rstrip("\n") == said
    monkeypatch.setenv("TACOSKIP_DEBUG", "1")
    result = tacoskip("doctor")
    assert result.exit_code == code
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == said


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> list[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr("tacoskip.doctor.examine", interrupt)
    result = tacoskip("doctor")
    assert result.exit_code == 130
    assert result.stderr.startswith("interrupted")


def test_a_run_that_is_not_there_is_told_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/ljspeech/checkpoints").mkdir(parents=True)
    for command in (["synthesize", "runs/ljspech", "hello"], ["evaluate", "runs/ljspech"]):
        assert "did you mean 'runs/ljspeech'?" in refused(tacoskip(*command))
    assert "no checkpoint" in refused(tacoskip("synthesize", "runs/ljspeech", "hello"))
    Path("junk.pt").write_bytes(b"not a checkpoint")
    assert "junk.pt" in refused(tacoskip("synthesize", "junk.pt", "hello"))


def test_a_checkpoint_that_wants_to_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Evil()}, "evil.pt")
    assert "evil.pt" in refused(tacoskip("synthesize", "evil.pt", "hello"))
    assert not Path("executed").exists()


def test_a_corpus_with_nothing_left_is_failed_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad" / "wavs").mkdir(parents=True)
    Path("bad/metadata.csv").write_text("one|one|one\n")
    Path("bad/wavs/one.wav").write_text("this is a text file")
    result = tacoskip("prepare", "recipe=smoke", "data.root=bad")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: no clip of ")
    assert "Traceback" not in result.stderr


def test_speech_goes_to_the_first_free_name(voice: Path) -> None:
    for name in ("speech.wav", "speech-2.wav", "speech-3.wav"):
        result = tacoskip("synthesize", "run", "hello there")
        assert (result.exit_code, result.stdout) == (0, "")
        assert f"wrote {name}" in result.stderr
        wave, rate = soundfile.read(voice / name)
        assert (len(wave), rate) == (80 * len("hello there"), RATE)


def test_a_named_file_is_replaced_and_that_is_said(voice: Path) -> None:
    assert "wrote a.wav" in tacoskip("synthesize", "run", "hello", "-o", "a.wav").stderr
    assert "replaced a.wav" in tacoskip("synthesize", "run", "hello", "-o", "a.wav").stderr


def test_the_seed_reaches_the_voice(voice: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        tacoskip("synthesize", "run", "hello", "-o", f"{name}.wav", "--seed", seed)
    a, b, c = (Path(f"{name}.wav").read_bytes() for name in "abc")
    assert a == b != c


def test_lines_of_a_file_follow_one_another_in_one_wav(voice: Path) -> None:
    Path("two.txt").write_bytes(b"\xef\xbb\xbfhello\r\n\r\n  there you are \r\n")
    assert tacoskip("synthesize", "run", "--file", "two.txt", "-o", "two.wav").exit_code == 0
    wave, _ = soundfile.read("two.wav")
    first, second = 80 * len("hello"), 80 * len("there you are")
    pause = len(wave) - first - second
    assert pause > 0
    assert np.abs(wave[first : first + pause]).max() == 0
    assert np.abs(wave[first + pause :]).max() > 0.4


def test_a_folder_takes_a_file_for_each_line(voice: Path) -> None:
    lines = [f"line number {chr(97 + n)}" for n in range(20)]  # more than are spoken at once
    result = tacoskip("synthesize", "run", "-", "-o", "out", stdin="\n".join(lines).encode())
    assert result.exit_code == 0
    assert sorted(p.name for p in Path("out").iterdir()) == [f"{n:04d}.wav" for n in range(1, 21)]


def test_plots_stand_beside_the_audio(voice: Path) -> None:
    tacoskip("synthesize", "run", "hello", "-o", "a.wav", "--plot")
    tacoskip("synthesize", "run", "-", "-o", "b.wav", "--plot", stdin=b"one\ntwo")
    for name in ("a.png", "b-0001.png", "b-0002.png"):
        assert Path(name).read_bytes().startswith(b"\x89PNG")


def test_warnings_are_lines_said_once(voice: Path) -> None:
    result = tacoskip("synthesize", "run", "-", "-o", "a.wav", stdin=b"an endless text\n" * 17)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert lines.count("warning: dropped 1 characters") == 1
    assert "warning: 'an endless text': did not end by itself" in lines


def test_json_stands_alone_on_stdout(voice: Path) -> None:
    result = tacoskip("synthesize", "run", "endless", "-o", "a.wav", "--plot", "--json")
    told = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert told["sample_rate"] == RATE
    (speech,) = told["speech"]
    assert (speech["file"], speech["plot"], speech["stopped"]) == ("a.wav", "a.png", False)
    assert speech["seconds"] == pytest.approx(0.07)
    assert "a library talks to stdout" in result.stderr


def test_a_stream_is_a_wav_and_nothing_else(voice: Path) -> None:
    result = tacoskip("synthesize", "run", "-", "-o", "-", stdin=b"hello\nthere")
    wave, rate = soundfile.read(io.BytesIO(result.stdout_bytes))
    tacoskip("synthesize", "run", "-", "-o", "whole.wav", stdin=b"hello\nthere")
    whole, _ = soundfile.read("whole.wav")
    assert rate == RATE
    np.testing.assert_array_equal(wave, whole)
    assert sorted(p.name for p in voice.iterdir()) == ["whole.wav"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["hello", "--file", "x.txt"], None, "got a text and --file"),
        ([], None, "got none of them"),
        (["--file", "txet.txt"], None, "no such file: txet.txt; did you mean 'text.txt'?"),
        (["-"], b"\n \n", "standard input: expected a line of text, found none"),
        (["-"], b"caf\xe9", "expected UTF-8 text, got byte 0xe9 at 3"),
        ([""], None, "nothing to speak in ''"),
        (["?!"], None, "nothing to speak in '?!'"),
        (["?!", "-o", "-"], None, "nothing to speak in '?!'"),
        (["hello", "-s", "bob"], None, "unknown speaker 'bob' (known: anna)"),
        (["hello", "-o", "a.mp3"], None, "expected -o FILE.wav, FILE.flac, a folder or -"),
        (["hello", "-o", "text.txt"], None, "expected -o FILE.wav, FILE.flac, a folder or -"),
        (["hello", "-o", "plain"], None, "got the file 'plain'"),
        (["hello", "-o", "gone/a.wav"], None, "no folder 'gone'"),
        (["hello", "-o", "dir.wav"], None, "expected a file for -o dir.wav, got a folder"),
        (["hello", "-o", "-", "--plot"], None, "expected -o FILE with --plot or --json"),
        (["hello", "-o", "-", "--json"], None, "expected -o FILE with --plot or --json"),
    ],
)
def test_a_wrong_text_or_place_is_refused(
    voice: Path, arguments: list[str], stdin: bytes | None, said: str
) -> None:
    Path("text.txt").write_text("hello")
    Path("plain").write_text("hello")
    Path("dir.wav").mkdir()
    before = sorted(voice.iterdir())
    result = tacoskip("synthesize", "run", *arguments, stdin=stdin)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(lines) == 1
    assert said in lines[0]
    assert sorted(voice.iterdir()) == before


def test_evaluate_knows_its_splits() -> None:
    assert "did you mean 'validation'?" in refused(tacoskip("evaluate", "run", "--split", "valid"))


def test_blocks_lists_every_family() -> None:
    from tacoskip.blocks import BLOCKS

    told = json.loads(tacoskip("blocks", "--channels", "8", "--depth", "2", "--json").stdout)
    assert list(told["blocks"]) == list(BLOCKS)
    # Two highway layers, each with a transform and a gate: (8 + 1) x 8 weights apiece.
    assert told["blocks"]["highway"]["parameters"] == 2 * 2 * (8 + 1) * 8
    table = tacoskip("blocks").stdout
    assert all(name in table for name in BLOCKS)


def test_blocks_counts_the_frames_that_a_stack_really_sees() -> None:
    import torch

    from tacoskip.blocks import build_block

    told = json.loads(tacoskip("blocks", "--channels", "8", "--depth", "2", "--json").stdout)
    for name, family in told["blocks"].items():
        torch.manual_seed(0)
        stack = build_block(name, 8, 2).eval()
        x = torch.randn(1, 101, 8, requires_grad=True)
        stack(x, torch.ones(1, 101, dtype=torch.bool))[0, 50].sum().backward()
        assert x.grad is not None
        seen = x.grad[0].abs().sum(-1).nonzero().flatten()
        assert int(seen[-1] - seen[0]) + 1 == family["receptive_field"], name


def test_doctor_finds_this_environment_healthy() -> None:
    told = json.loads(tacoskip("doctor", "--json").stdout)
    assert told["healthy"] is True
    names = {check["name"] for check in told["checks"]}
    assert {"python", "torch", "torchaudio", "device", "bf16", "audio files", "disk"} <= names
    assert "torchaudio" in tacoskip("doctor").stdout


def test_doctor_survives_what_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)  # an import of it now fails
    monkeypatch.setitem(sys.modules, "soundfile", None)
    result = tacoskip("doctor", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    broken = {check["name"]: check["detail"] for check in told["checks"] if check["ok"] is False}
    assert set(broken) == {"torchaudio", "soundfile"}
    assert "reinstall" in broken["torchaudio"]
    assert told["healthy"] is False


def test_board_wants_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    assert "no folder of runs 'rnus'; did you mean 'runs'?" in refused(tacoskip("board", "rnus"))


def test_board_serves_until_ctrl_c(tmp_path: Path) -> None:
    script = "from tacoskip.cli import main; main()"
    command = [sys.executable, "-c", script, "board", str(tmp_path), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as board:
        assert board.stdout is not None
        line = board.stdout.readline()
        url = next(word for word in line.split() if word.startswith("http"))
        assert urllib.request.urlopen(url, timeout=30).status == 200
        board.send_signal(signal.SIGINT)
        _, said = board.communicate(timeout=30)
    assert board.returncode == 0, said
    assert "Traceback" not in said


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    # `yes | head`, as it were: the pipe is closed before the command writes into it.
    reader, writer = os.pipe()
    os.close(reader)
    script = (
        "import typer\nfrom tacoskip.console import emit_json, guarded\n"
        "app = typer.Typer()\n@app.command()\n@guarded\ndef f() -> None: emit_json({})\napp()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


Way = Callable[..., Result]


@pytest.fixture(scope="module")
def way(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """Runs a command with recipe=smoke on the tiny corpus, in one folder for the whole module."""
    folder = tmp_path_factory.mktemp("way")

    def run(command: str, *arguments: str) -> Result:
        before = Path.cwd()
        os.chdir(folder)
        try:
            recipe = ["recipe=smoke", f"data.root={tiny_corpus}"]
            return tacoskip(
                command, *(recipe if command in ("prepare", "train") else []), *arguments
            )
        finally:
            os.chdir(before)

    return run


def test_ctrl_c_in_training_saves_and_the_next_run_goes_on(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    script = "from tacoskip.cli import main; main()"
    command = [sys.executable, "-c", script, "train", "recipe=smoke", f"data.root={tiny_corpus}"]
    checkpoints = tmp_path / "runs" / "smoke" / "checkpoints"

    def steps() -> list[int]:
        return sorted(int(path.stem.removeprefix("step-")) for path in checkpoints.glob("step-*"))

    endless = [*command, "train.max_steps=1e6", "train.checkpoint_minutes=1e-6", "--json"]
    with subprocess.Popen(
        endless, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as training:
        deadline = time.monotonic() + 120
        while not steps() and training.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        training.send_signal(signal.SIGINT)
        result, said = training.communicate(timeout=60)
    assert (training.returncode, result) == (130, ""), said
    assert "Traceback" not in said
    reached = steps()[-1]

    more = [*command, f"train.max_steps={reached + 2}", "--json"]
    again = subprocess.run(more, capture_output=True, text=True, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"at step {reached}" in again.stderr
    assert json.loads(again.stdout)["step"] == reached + 2


def test_the_whole_way(way: Way) -> None:
    prepared = way("prepare", "--json")
    assert prepared.exit_code == 0, prepared.stderr
    report = json.loads(prepared.stdout)
    assert report["kept"] + sum(report["dropped"].values()) == 16

    trained = way("train", "--json")
    assert trained.exit_code == 0, trained.stderr
    summary = json.loads(trained.stdout)
    assert (summary["run"], summary["step"]) == ("runs/smoke", 4)

    resumed = way("train", "train.max_steps=6", "--json")
    assert resumed.exit_code == 0, resumed.stderr
    assert json.loads(resumed.stdout)["step"] == 6
    assert "resumed" in resumed.stderr

    spoken = way("synthesize", "runs/smoke", "one two", "--json")
    assert spoken.exit_code == 0, spoken.stderr
    assert json.loads(spoken.stdout)["speech"][0]["seconds"] > 0

    piped = way("synthesize", "runs/smoke", "one two", "-o", "-")
    assert piped.exit_code == 0, piped.stderr
    wave, rate = soundfile.read(io.BytesIO(piped.stdout_bytes))
    assert (rate, len(wave) > 0) == (RATE, True)

    judged = way("evaluate", "runs/smoke", "--limit", "1", "--json")
    assert judged.exit_code == 0, judged.stderr
    assert "mcd_db" in json.loads(judged.stdout)
