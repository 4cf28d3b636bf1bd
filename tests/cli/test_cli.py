"""The commands: exit codes, one-line errors, what is printed on which stream."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tacoskip.cli import app, main

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    *("prepare", "train", "synthesize", "transcribe", "align", "export", "ngram"),
    *("evaluate", "ablate", "compare", "board", "blocks"),
    *("recipes", "settings", "config", "doctor"),
]


def tacoskip(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(result: Result) -> str:
    """The one line on stderr of a command that was refused, with nothing on stdout."""
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


def test_help_lists_every_command_with_examples() -> None:
    result = tacoskip("--help")
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.stdout.split("Commands:")[1].splitlines() if line]
    assert listed[: len(COMMANDS)] == COMMANDS
    for command in COMMANDS:
        page = tacoskip(command, "--help")
        assert page.exit_code == 0
        assert page.stdout.count(f"\n    tacoskip {command}") == 2, "two examples"
        assert "--quiet" in page.stdout


def test_help_imports_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "yaml", "rich", "lhotse", "librosa", "matplotlib", "scipy"]
    script = (
        "import sys\nfrom tacoskip.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        f"print('heavy:', [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stderr


def test_unknown_command_or_option_exits_2() -> None:
    for arguments in (["transcribble"], ["train", "--resume"], ["synthesize"]):
        result = tacoskip(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Traceback" not in result.stderr


def test_root_script_runs_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "cli.py", "--version"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.startswith("tacoskip 0.")


@pytest.mark.parametrize("command", ["prepare", "train"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected recipe=NAME, got none (known: arctic"),
        (["demo"], "expected recipe=NAME, got 'demo'; did you mean 'recipe=demo'?"),
        (["recipe=ljspech"], "did you mean 'ljspeech'?"),
        (["recipe=smoke", "train.max_step=5"], "did you mean 'train.max_steps'?"),
        (["recipe=smoke", "train.max_steps=many"], "expected a whole number"),
        (["recipe=smoke", "data.corpus=ljspech"], "did you mean 'ljspeech'?"),
        (["recipe=smoke", "block"], "expected key=value, got 'block'"),
        (["recipe=smoke", "data.root=nowhere/at/all"], "no folder 'nowhere/at/all' (data.root)"),
        (["recipe=smoke", f"data.root={__file__}"], "expected a folder in data.root, got the file"),
        (["recipe=smoke", f"data.root={ROOT / 'docs'}"], "metadata.tsv, one other table, or"),
    ],
)
def test_wrong_request_prints_one_line_and_exits_2(
    command: str,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(tacoskip(command, *arguments))
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_missing_corpus_folder_suggests_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corpora/fsdd").mkdir(parents=True)
    message = refused(tacoskip("prepare", "recipe=fsdd", "data.root=corpora/fssd"))
    assert "did you mean 'corpora/fsdd'?" in message


def test_missing_run_suggests_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/ljspeech/checkpoints").mkdir(parents=True)
    for command in (["synthesize", "runs/ljspech", "hello"], ["evaluate", "runs/ljspech"]):
        assert "did you mean 'runs/ljspeech'?" in refused(tacoskip(*command))
    assert "no checkpoint" in refused(tacoskip("synthesize", "runs/ljspeech", "hello"))
    Path("junk.pt").write_bytes(b"not a checkpoint")
    assert "junk.pt" in refused(tacoskip("synthesize", "junk.pt", "hello"))


def test_folder_without_a_run_is_refused_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        Path(f"runs/{name}/checkpoints").mkdir(parents=True)
    assert "a folder of runs: runs/one, runs/two" in refused(tacoskip("evaluate", "runs"))
    assert "did you mean 'runs/two'?" in refused(tacoskip("synthesize", "two", "hello"))
    Path("all/plain/seed-0/checkpoints").mkdir(parents=True)
    assert "a folder of runs: all/plain/seed-0" in refused(tacoskip("evaluate", "all"))
    Path("onnx").mkdir()
    Path("onnx/export.json").write_text("{}")
    assert "got 'onnx', which was exported from one" in refused(tacoskip("evaluate", "onnx"))
    message = refused(tacoskip("export", "runs/one", "-o", "not/here"))
    assert "no folder 'not' to make -o not/here in" in message


@pytest.mark.parametrize("command", [("train",), ("ablate", "blocks=plain", "train.max_steps=1")])
def test_run_folder_that_cannot_be_created_is_refused(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes").touch()
    for run in ("notes", "notes/run"):
        message = refused(tacoskip(*command, "recipe=smoke", "data.root=nowhere", f"run={run}"))
        assert f"expected a folder for run={run}, got the file 'notes'" in message
    Path("all").mkdir()
    Path("all/ablation.json").write_text("{}")
    message = refused(tacoskip("train", "recipe=smoke", "data.root=nowhere", "run=all"))
    assert "all holds an ablation; choose another run=FOLDER" in message


@pytest.mark.hostile
def test_errors_print_no_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("metadata.csv").write_text("\x1bowned\x07,b\nx,y\n")
    message = refused(tacoskip("prepare", "recipe=smoke", "data.root=."))
    assert "?owned?" in message and not {"\x1b", "\x07"} & {*message}


def test_checkpoint_with_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Evil()}, "evil.pt")
    assert "evil.pt" in refused(tacoskip("synthesize", "evil.pt", "hello"))
    assert not Path("executed").exists()


def test_corpus_without_usable_clips_exits_1(
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


def test_blocks_lists_every_family_with_its_measured_receptive_field() -> None:
    import torch

    from tacoskip.blocks import BLOCKS, build_block

    report = json.loads(tacoskip("blocks", "--channels", "8", "--depth", "2", "--json").stdout)
    assert list(report["blocks"]) == list(BLOCKS)
    # Two highway layers, each with a transform and a gate: (8 + 1) x 8 weights apiece.
    assert report["blocks"]["highway"]["parameters"] == 2 * 2 * (8 + 1) * 8
    for name, family in report["blocks"].items():
        torch.manual_seed(0)
        stack = build_block(name, 8, 2).eval()
        x = torch.randn(1, 101, 8, requires_grad=True)
        stack(x, torch.ones(1, 101, dtype=torch.bool))[0, 50].sum().backward()
        assert x.grad is not None
        seen = x.grad[0].abs().sum(-1).nonzero().flatten()
        assert int(seen[-1] - seen[0]) < (family["receptive_field"] or 102), name


def test_blocks_keeps_names_and_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    from tacoskip.blocks import BLOCKS, build_block, cost

    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.split() for line in tacoskip("blocks", "--channels", "64").stdout.splitlines()]
    for name in BLOCKS:
        parameters = f"{cost.parameters(build_block(name, 64, 4)):,}"
        assert any(line[:1] == [name] and parameters in line for line in lines)


def test_blocks_describes_one_family() -> None:
    report = tacoskip("blocks", "highway").stdout
    assert "Srivastava et al. 2015" in report and "block_options.skip_gate_bias" in report
    assert "tacoskip train recipe=fsdd block=highway" in report
    assert "did you mean 'highway'?" in refused(tacoskip("blocks", "higway"))


def test_settings_lists_what_contains_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    report = tacoskip("settings", "precision").stdout
    assert "train.precision" in report and "train.keep" not in report
    listed = json.loads(tacoskip("settings", "--json").stdout)["settings"]
    assert {"block", "audio.hop_ms", "cbhg.channels"} <= {one["setting"] for one in listed}
    (task,) = (one for one in listed if one["setting"] == "task")
    assert (task["default"], task["choices"]) == ("tts", ["tts", "asr"])
    assert "did you mean 'train.keep'?" in refused(tacoskip("settings", "trainkeep"))


def test_recipes_are_listed_with_task_and_corpus() -> None:
    listed = json.loads(tacoskip("recipes", "--json").stdout)["recipes"]
    (fsdd,) = (one for one in listed if one["name"] == "fsdd_asr")
    assert (fsdd["task"], fsdd["corpus"]) == ("asr", "fsdd")
    assert all(one["summary"].endswith(".") for one in listed)


def test_config_prints_a_recipe_that_resolves_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = tacoskip("config", "recipe=smoke_asr", "train.keep=9").stdout
    assert "\n  keep: 9\n" in text and "griffin_lim" not in text
    Path("again.yaml").write_text(text)
    assert tacoskip("config", "recipe=again.yaml").stdout == text.replace(
        "recipe: smoke_asr", "recipe: again"
    )


def test_quiet_leaves_results_warnings_and_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text("one two\nthree\n")
    assert tacoskip("ngram", "words.txt").stderr.startswith("wrote lm.arpa")
    assert tacoskip("ngram", "words.txt", "--quiet").stderr == ""
    assert "gone.txt: No such file" in refused(tacoskip("ngram", "gone.txt", "--quiet"))


def test_compare_requires_a_folder_with_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    assert "did you mean 'runs'?" in refused(tacoskip("compare", "rnus"))
    assert "runs" in refused(tacoskip("compare", "runs"))


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("tran", "No such command 'tran'. Did you mean 'train'?"),
        ("train --foo", "tacoskip train --help"),
        ("synthesize", "Missing argument 'RUN'"),
        ("evaluate runs/x --limit few", "Invalid value for '--limit'"),
        ("blocks --depth 99999", "Invalid value for '--depth'"),
        ("evaluate run --split valid", "'valid' is not one of 'train', 'validation', 'test'"),
        ("transcribe run a.wav --format srv", "'srv' is not one of 'text', 'json', 'srt', 'vtt'"),
        ("board --port 65536", "Invalid value for '--port'"),
    ],
)
def test_unparsable_request_prints_one_line(
    typed: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tacoskip", *typed.split()])
    with pytest.raises(SystemExit) as end:
        main()
    out, line = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert line.startswith("error: ") and line.count("\n") == 1 and message in line


def test_board_suggests_the_nearest_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    assert "no folder of runs 'rnus'; did you mean 'runs'?" in refused(tacoskip("board", "rnus"))


def test_board_refuses_files_and_foreign_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert "expected a folder of runs, got the file 'file'" in refused(tacoskip("board", "file"))
    message = refused(tacoskip("board"))
    assert "no folder of runs 'runs'; train first: tacoskip train recipe=" in message
    result = tacoskip("board", ".", "--host", "203.0.113.1", "--port", "0")  # of nobody
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and "Traceback" not in result.stderr
    assert "warning: no run in '.' has curves yet; they appear when a run logs them" in lines
    assert lines[-1].startswith("error: expected --host, an address of this machine, got '203.0.")


def test_board_serves_until_ctrl_c(tmp_path: Path) -> None:
    # A shell's background jobs, and with them these tests, may have been report to ignore Ctrl-C.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = f"{listen}; from tacoskip.cli import main; main()"
    command = [sys.executable, "-c", script, "board", str(tmp_path), "--port", "0"]
    for number in range(41):
        (tmp_path / f"run{number}").mkdir()
        (tmp_path / f"run{number}" / "events.out.tfevents.1.here").touch()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as board:
        assert board.stdout is not None
        line = board.stdout.readline()
        url = next(word for word in line.split() if word.startswith("http"))
        assert urllib.request.urlopen(url, timeout=30).status == 200
        board.send_signal(signal.SIGINT)
        _, message = board.communicate(timeout=30)
    assert board.returncode == 0, message
    assert "Traceback" not in message
    assert "41 runs: Scalars and Custom Scalars stay empty until TOGGLE ALL RUNS" in message
