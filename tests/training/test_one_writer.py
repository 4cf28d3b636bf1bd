"""A run folder has one writer, who writes through no link."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tacoskip.cli import app
from tacoskip.config import Config
from tacoskip.files import LOCK, folder_lock
from tacoskip.run_folder import RunError
from tacoskip.training import train
from tacoskip.training.board import SUFFIX, Board

from .conftest import Prepared

pytestmark = pytest.mark.hostile


@pytest.fixture
def settings(prepared: Prepared) -> Config:
    return prepared("smoke")


def test_second_training_of_a_run_is_refused_in_one_line(settings: Config) -> None:
    pairs = [f"data.root={settings.data.root}", f"data.dir={settings.data.dir}"]
    pairs += [f"run={settings.run}", "train.max_steps=1", "train.device=cpu"]
    pairs += ["data.validation=3", "data.test=2"]
    with folder_lock(settings.run):
        refused = CliRunner().invoke(app, ["train", "recipe=smoke", *pairs])
    last = refused.stderr.splitlines()[-1]
    assert refused.exit_code == 2 and last.startswith(f"error: {settings.run} is in use by process")
    assert " since 20" in last
    assert not (Path(settings.run) / "checkpoints").exists()


def test_training_writes_through_no_link(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    precious = elsewhere / "precious"
    precious.write_text("precious")
    (run / f"events.out.tfevents.1.a.1.0{SUFFIX}").symlink_to(precious)
    Board(run, resumed=1, saved={}).close()
    (run / LOCK).symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"), folder_lock(run):
        pass
    assert precious.read_text() == "precious"


def test_a_link_in_the_place_of_a_folder_is_refused(settings: Config, tmp_path: Path) -> None:
    run = Path(settings.run)
    run.mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("checkpoints", "samples"):
        (run / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(RunError, match=f"{name}: expected a folder, got a link"):
            train(settings)
        (run / name).unlink()
    assert not list((tmp_path / "elsewhere").iterdir())
