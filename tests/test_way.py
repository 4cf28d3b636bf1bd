"""The whole way by the real commands: a corpus, a run folder, an interrupt, a sentence, figures."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch
from typer.testing import CliRunner, Result

from tacoskip.cli import app
from tacoskip.run_folder import load_checkpoint

RATE = 8000
pytestmark = pytest.mark.usefixtures("undrawn")


def tacoskip(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


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


def test_interrupted_run_resumes_to_the_same_weights(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # A shell's background jobs, and with them these tests, may have been told to ignore Ctrl-C.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = [sys.executable, "-c", f"{heed}; from tacoskip.cli import main; main()"]
    train = ["train", "recipe=smoke", f"data.root={tiny_corpus}"]
    train += ["train.max_steps=40", "train.evaluate_every=1000", "train.sentences=[]"]
    train += ["data.validation=1", "data.test=1"]
    checkpoints = tmp_path / "runs" / "smoke" / "checkpoints"

    def steps() -> list[int]:
        names = [path.stem for path in checkpoints.glob("step-*.pt")]
        return sorted(int(name.removeprefix("step-")) for name in names)

    saving = [*script, *train, "train.checkpoint_minutes=1e-6", "--json"]
    with subprocess.Popen(
        saving, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as training:
        deadline = time.monotonic() + 300
        while not steps() and training.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        training.send_signal(signal.SIGINT)
        result, messages = training.communicate(timeout=300)
    assert (training.returncode, result) == (130, ""), messages
    assert "Traceback" not in messages and "stopping: this step is finished and saved" in messages
    reached = steps()[-1]
    assert reached < 40

    # The settings are those of the run folder.
    again = tacoskip("train", "run=runs/smoke", "--json")
    assert again.exit_code == 0, again.stderr
    assert f"at step {reached}" in again.stderr
    assert json.loads(again.stdout)["step"] == 40

    assert tacoskip(*train, "run=runs/straight").exit_code == 0
    ends = [tmp_path / "runs" / run / "checkpoints" for run in ("smoke", "straight")]
    stopped, straight = (
        load_checkpoint(end / "step-00000040.pt").training["weights"] for end in ends
    )
    torch.testing.assert_close(stopped, straight, atol=0, rtol=0)


def test_commands_from_corpus_to_comparison(way: Way) -> None:
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

    other = way("train", "run=runs/other", "block=bottleneck", "skip=gated", "train.max_steps=6")
    assert other.exit_code == 0, other.stderr
    compared = way("compare", "runs", "--baseline", "highway", "--json")
    assert compared.exit_code == 0, compared.stderr
    told = compared.stdout
    assert "highway" in told and "bottleneck" in told and "cannot tell" in told
    json.loads(told)
