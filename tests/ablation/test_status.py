"""How far an ablation is."""

import json
from pathlib import Path

from typer.testing import CliRunner

from tacoskip.ablation.status import status, summary
from tacoskip.cli import app
from tacoskip.files import LOCK, folder_lock

from .conftest import MakeAblation


def test_status_says_what_runs_and_what_failed(make_ablation: MakeAblation) -> None:
    good = {"loss": 1.0}
    folder = make_ablation({"highway": [good, good], "plain": [good, None]})
    plan = json.loads((folder / "ablation.json").read_text())
    for seed in (3, 4):
        entry = {"run": f"plain/seed-{seed}", "variant": "plain", "seed": seed}
        plan["runs"].append(entry | {"state": "planned", "error": ""})
    (folder / "ablation.json").write_text(json.dumps(plan))
    (folder / "plain/seed-3/checkpoints").mkdir(parents=True)
    (folder / "plain/seed-3/checkpoints/step-00000020.pt").touch()
    with folder_lock(folder), folder_lock(folder / "plain/seed-3"):
        values, _ = status(folder)
        assert values["variants"] == {
            "highway": {"done": 2, "running": 0, "planned": 0, "failed": 0},
            "plain": {"done": 1, "running": 1, "planned": 1, "failed": 1},
        }
        assert values["running"] == {"plain/seed-3": 20}
        assert values["failed"] == {"plain/seed-2": "loss is not finite"}
        assert summary(values).startswith("in use by process ")
        assert summary(values).endswith("; 3.0 min of training remain")
        shown = CliRunner().invoke(app, ["ablate", f"run={folder}", "--status"])
        assert shown.exit_code == 0 and "plain/seed-3" in shown.stdout
    values, _ = status(folder)
    assert values["running"] == {} and summary(values).startswith("nobody works on it")


def test_status_ignores_the_lock_of_a_killed_process(make_ablation: MakeAblation) -> None:
    folder = make_ablation({"highway": [{"loss": 1.0}]})
    with folder_lock(folder):
        holder = (folder / LOCK).read_text()
    pid = holder.split()[1]
    (folder / LOCK).write_text(holder.replace(pid, str(2**22 + 1)))
    assert status(folder)[0]["holder"] == ""
    (folder / LOCK).write_text(holder)
    assert status(folder)[0]["holder"] == holder.strip()


def test_status_without_an_ablation_is_an_error_of_one_line(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["ablate", "runs/x", "--status"])
    assert shown.exit_code == 2 and "expected run=FOLDER with --status, got runs/x" in shown.stderr
    for folder, words in ((tmp_path, "no runs in"), (tmp_path / "gone", "no folder of runs")):
        shown = CliRunner().invoke(app, ["ablate", f"run={folder}", "--status"])
        assert shown.exit_code == 2 and words in shown.stderr
