"""`transcribe`, `align`, `ngram` and `evaluate` of a recognizer."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner, Result

from tacoskip.cli import app
from tacoskip.config import load_config, to_dict
from tacoskip.data.prepare import prepare
from tacoskip.run_folder import Checkpoint, build_recognizer, save_checkpoint

RATE = 8000


def tacoskip(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """A run of a recognizer with random weights, a prepared corpus, some audio."""
    folder = tmp_path_factory.mktemp("hear")
    config = load_config("smoke_asr", [f"data.root={tiny_corpus}", f"data.dir={folder / 'data'}"])
    torch.manual_seed(0)
    model = build_recognizer(config, 29)
    with torch.no_grad():
        model.output.weight.mul_(20)
    prepare(config)
    values = Checkpoint(to_dict(config), ["s"], 29, 1.0, 1, model.state_dict(), {})
    save_checkpoint(values, folder / "run" / "checkpoints" / "best.pt")
    rng = np.random.default_rng(0)
    for name, seconds in (("a.wav", 2.0), ("b.wav", 1.0)):
        soundfile.write(folder / name, 0.1 * rng.standard_normal(int(RATE * seconds)), RATE)
    (folder / "text.wav").write_text("no sound\n")
    (folder / "empty.wav").touch()
    return folder


def test_text_of_one_file_and_of_several(folder: Path) -> None:
    one = tacoskip("transcribe", folder / "run", folder / "a.wav")
    assert one.exit_code == 0, one.stderr
    both = tacoskip("transcribe", folder / "run", folder / "a.wav", folder / "b.wav")
    assert both.stdout.splitlines()[0] == f"{folder / 'a.wav'}: {one.stdout.strip()}"
    assert len(both.stdout.splitlines()) == 2


def test_json_has_words_with_times_and_confidence(folder: Path) -> None:
    result = tacoskip("transcribe", folder / "run", folder / "a.wav", "--format", "json")
    (result,) = json.loads(result.stdout)["transcripts"]
    assert result["seconds"] == 2.0 and result["file"] == str(folder / "a.wav")
    assert " ".join(word["text"] for word in result["words"]) == result["text"] != ""
    word = result["words"][0]
    assert 0 <= word["start"] < word["end"] <= 2.1 and 0 < word["confidence"] <= 1
    assert "".join(c["text"] for c in word["characters"]) == word["text"]


def test_unreadable_files_are_named_and_others_transcribed(folder: Path) -> None:
    wrong = ["text.wav", "empty.wav", "none.wav"]
    result = tacoskip("transcribe", folder / "run", *(folder / n for n in [*wrong, "a.wav"]))
    assert result.exit_code == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3 and all(n in e for n, e in zip(wrong, errors, strict=True))
    assert "Traceback" not in result.stderr
    assert result.stdout.startswith(f"{folder / 'a.wav'}: ")
    alone = tacoskip("transcribe", folder / "run", folder / "none.wav", "--format", "srt")
    assert (alone.exit_code, alone.stdout) == (2, "")
    assert alone.stderr.count("\n") == 1, "no time of no speech"


@pytest.mark.hostile
def test_odd_names_end_no_batch(folder: Path, tmp_path: Path) -> None:
    """A name too long for the file system, one that is not UTF-8, one that a terminal obeys."""
    sound = (folder / "b.wav").read_bytes()
    odd = [os.fsdecode(b"caf\xe9.wav"), "\x1b]0;owned\x07.wav", "n" * 250 + ".wav"]
    for name in odd:
        (tmp_path / name).write_bytes(sound)
    names = ["n" * 300 + ".wav", *odd, str(folder / "b.wav")]
    script = [sys.executable, "-m", "tacoskip.cli", "transcribe", folder / "run", *names]
    done = subprocess.run(
        [*script, "--format", "json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 2)
    assert f"error: {names[0]}: File name too long" in done.stderr
    assert [one["file"] for one in json.loads(done.stdout)["transcripts"]] == names[1:]
    paths = [tmp_path / name for name in names]
    result = tacoskip("transcribe", folder / "run", *paths, "-o", tmp_path / "out")
    assert result.exit_code == 2 and "\x1b" not in result.stderr
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_folder_output_has_one_file_a_recording(folder: Path, tmp_path: Path) -> None:
    files = [folder / "a.wav", folder / "b.wav"]
    for kind, begins in (("srt", "1\n00:00:0"), ("vtt", "WEBVTT"), ("text", ""), ("json", "{")):
        out = tmp_path / kind
        result = tacoskip("transcribe", folder / "run", *files, "--format", kind, "-o", out)
        assert result.exit_code == 0 and result.stdout == "", result.stderr
        assert len(list(out.iterdir())) == 2
        assert all(path.read_text().startswith(begins) for path in out.iterdir())


@pytest.mark.usefixtures("flashlight")
def test_beam_search_with_an_ngram_model(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one two\nthree four five\n" * 3)
    lm = tmp_path / "lm.arpa"
    made = tacoskip("ngram", tmp_path / "text.txt", "-o", lm, "--order", "2", "--json")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["sentences"] == 6
    result = tacoskip("transcribe", folder / "run", folder / "a.wav", "--beam", "20", "--lm", lm)
    assert result.exit_code == 0, result.stderr
    known = {"one", "two", "three", "four", "five"}
    *words, last = result.stdout.split()  # the recording may end within a word
    assert set(words) <= known and any(word.startswith(last) for word in known)


def test_alignment_as_json_and_textgrid(folder: Path) -> None:
    result = tacoskip("align", folder / "run", folder / "a.wav", "One two")
    assert result.exit_code == 0, result.stderr
    assert [word["text"] for word in json.loads(result.stdout)["words"]] == ["one", "two"]
    grid = tacoskip("align", folder / "run", folder / "a.wav", "one two", "--format", "textgrid")
    assert grid.stdout.startswith('File type = "ooTextFile"') and '"two"' in grid.stdout


def test_evaluate_writes_figures_of_clips_and_of_strings(folder: Path) -> None:
    result = tacoskip("evaluate", folder / "run", "--split", "train", "--json")
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout)
    errors = sum(figures[name] for name in ("substitutions", "deletions", "insertions"))
    assert figures["wer"]["mean"] == pytest.approx(errors / figures["words"])
    assert figures["cer"]["low"] <= figures["cer"]["mean"] <= figures["cer"]["high"]
    assert figures["worst"] and figures["rtf"] > 0
    strings = tacoskip("evaluate", folder / "run", "--split", "train", "--join", "2-3")
    assert strings.exit_code == 0, strings.stderr
    assert "wer" in strings.stdout and "worst" in strings.stdout
    saved = json.loads((folder / "run" / "metrics.json").read_text())
    assert set(saved) == {"train", "train, strings of 2-3"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["transcribe", "RUN", "a.wav", "b.wav", "--format", "vtt"], "expected -o FOLDER"),
        (["transcribe", "RUN", "a.wav", "--lm", "x.arpa"], "expected --beam N with --lm"),
        (["transcribe", "RUN", "a.wav", "--beam", "5", "--lm", "x.arpa"], "x.arpa: No such file"),
        (["transcribe", "RUM", "a.wav"], "no run folder or checkpoint"),
        (["align", "RUN", "a.wav", "..."], "expected a text with letters"),
        (["align", "RUN", "none.wav", "one"], "none.wav: no such file"),
        (["synthesize", "RUN", "one"], "expected a voice, got a recognizer"),
        (["evaluate", "RUN", "--judge", "RUN"], "expected --judge and --mos with a voice"),
        (["evaluate", "RUN", "--join", "7-3"], "expected --join LOW-HIGH"),
        (["ngram", "none.txt"], "none.txt: No such file"),
        (["transcribe", "RUN", "a.wav", "--beam", "2", "--lm", "x:nan"], "x:nan"),
        (["blocks", "plain", "--channels", "2048", "--depth", "999"], "expected fewer --channels"),
    ],
)
def test_wrong_request_prints_one_line_and_exits_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(folder)
    result = tacoskip(*[a.replace("RUN", "run") for a in arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert reason in result.stderr


def test_recognizer_checkpoint_holds_plain_values(folder: Path) -> None:
    values = torch.load(folder / "run" / "checkpoints" / "best.pt", weights_only=True)
    assert values["config"]["asr"] == asdict(load_config("smoke_asr").asr)
