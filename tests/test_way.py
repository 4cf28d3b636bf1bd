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


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_goes_on_as_if_it_never_had(
    tiny_corpus: Path, tmp_path: Path, asked: signal.Signals
) -> None:
    # A shell's background jobs, and with them these tests, may have been told to ignore Ctrl-C.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = f"{listen}; from tacoskip.cli import main; main()"
    command = [sys.executable, "-c", script, "train", "recipe=smoke", f"data.root={tiny_corpus}"]
    command += ["train.decay_steps=1000", "train.evaluate_every=1000", "train.sentences=[]"]
    command += ["data.validation=1", "data.test=1"]
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
        training.send_signal(asked)
        result, said = training.communicate(timeout=60)
    assert (training.returncode, result) == (128 + asked, ""), said
    assert "Traceback" not in said and "stopping: this step is finished and saved" in said
    reached = steps()[-1]

    more = [*command, f"train.max_steps={reached + 2}", "--json"]
    again = subprocess.run(more, capture_output=True, text=True, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"at step {reached}" in again.stderr
    assert json.loads(again.stdout)["step"] == reached + 2

    subprocess.run([*more, "run=runs/straight"], capture_output=True, check=True, cwd=tmp_path)
    ends = [tmp_path / "runs" / run / "checkpoints" for run in ("smoke", "straight")]
    stopped, straight = (
        load_checkpoint(end / f"step-{reached + 2:08d}.pt").training["weights"] for end in ends
    )
    torch.testing.assert_close(stopped, straight, atol=0, rtol=0)


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

    other = way("train", "run=runs/other", "block=bottleneck", "skip=gated", "train.max_steps=6")
    assert other.exit_code == 0, other.stderr
    compared = way("compare", "runs", "--baseline", "highway", "--json")
    assert compared.exit_code == 0, compared.stderr
    told = compared.stdout
    assert "highway" in told and "bottleneck" in told and "cannot tell" in told
    json.loads(told)
