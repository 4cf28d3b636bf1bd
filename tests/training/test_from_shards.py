"""Training on shards is training on the corpus they were written of; and what a user sees of it."""

import importlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tacoskip.cli import app
from tacoskip.config import Config
from tacoskip.data import storage
from tacoskip.data.errors import CorpusError
from tacoskip.data.prepared import write_shards
from tacoskip.run_folder import checkpoints, load_checkpoint
from tacoskip.training import Progress, train

from .conftest import Prepared, train_until

TESTS = Path(__file__).parents[1]


@pytest.fixture
def settings(prepared: Prepared, request: pytest.FixtureRequest) -> Iterator[Config]:
    config = prepared(request.param)
    config.train.log_every, config.train.sentences = 1, []
    config.train.evaluate_every, config.train.deterministic = 100, True
    config.data.batch_seconds = 8.0
    yield config
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serves tmp_path / shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TESTS)
        one = importlib.import_module("range_server").server(tmp_path / "shards")
    threading.Thread(target=one.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{one.server_port}"
    one.shutdown()
    one.server_close()


def run(
    settings: Config, steps: int, root: str, name: str
) -> tuple[list[float], dict[str, object]]:
    """Train until a step; the losses on the way, and what the checkpoint holds."""
    settings.data.root, settings.train.max_steps = root, 4
    settings.run = str(Path(settings.data.dir).parent / name)
    seen: list[Progress] = []
    if steps < 4:
        train_until(settings, steps, seen.append)
    else:
        train(settings, seen.append)
    training = load_checkpoint(checkpoints(Path(settings.run))[-1]).training
    kept = {key: training[key] for key in ("weights", "batches", "optimizer")}
    return [p.scalars["loss"] for p in seen if p.scalars], kept


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return a == b


@pytest.mark.parametrize(
    ("settings", "moves"),
    [("smoke", [("server", 2), ("folder", 4)]), ("smoke_asr", [("server", 4)])],
    indirect=["settings"],
)
def test_training_from_shards_equals_training_from_the_corpus(
    settings: Config, moves: list[tuple[str, int]], tmp_path: Path, address: str
) -> None:
    """Begun in one place and gone on with in another: to the bit the run that stayed."""
    write_shards(Path(settings.data.dir), tmp_path / "shards", shard_bytes=30_000)
    roots = {"corpus": settings.data.root, "server": address, "folder": str(tmp_path / "shards")}
    losses, kept = run(settings, 4, roots["corpus"], "stayed")
    found = list[float]()
    for place, steps in moves:
        more, moved = run(settings, steps, roots[place], "moved")
        found += more
    assert found == losses and len(losses) == 4
    assert equal(moved, kept)


@pytest.mark.parametrize("settings", ["smoke"], indirect=True)
def test_commands_write_shards_and_refuse_wrong_ones(
    settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, data = tmp_path / "shards", settings.data
    pairs = [f"data.root={data.root}", f"data.dir={data.dir}", "data.validation=3", "data.test=2"]
    command = ["prepare", "recipe=smoke", *pairs, f"data.shards={shards}"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)["shards"]
    assert (report["dir"], report["shards"]) == (str(shards), 1)
    assert "shards: 1 of" in CliRunner().invoke(app, command).stdout
    for wrong, said in (
        ([f"data.root={shards}"], "is prepared already: train on it"),
        ([f"data.root={data.root}", "data.shards=http://a/b"], "expected a folder in data.shards"),
    ):
        refused = CliRunner().invoke(app, ["prepare", "recipe=smoke", *wrong])
        assert refused.exit_code == 2 and said in refused.stderr
        assert refused.stderr.count("\n") == 1
    monkeypatch.setattr(storage, "PAUSE", 0.001)
    (shards / "audio.000000.tar").write_bytes(b"")
    for root, cause in ((str(shards), "damaged at byte"), ("http://127.0.0.1:9", "5 attempts")):
        failed = CliRunner().invoke(app, ["train", "recipe=smoke", f"data.root={root}"])
        assert failed.exit_code == 1 and cause in failed.stderr.splitlines()[-1]
        assert "Traceback" not in failed.stderr
    settings.data.root, settings.data.corpus = str(shards), "vctk"
    CliRunner().invoke(app, command)
    with pytest.raises(CorpusError, match=r"expected vctk at 8000 Hz in .*shards, got folder"):
        train(settings)
