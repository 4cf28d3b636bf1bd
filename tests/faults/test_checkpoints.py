"""Damaged checkpoints: the run resumes from the last good one."""

import io
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tacoskip.cli import app
from tacoskip.run_folder import checkpoints, load_checkpoint

from .conftest import Ledger
from .test_kill import outcome, same

pytestmark = pytest.mark.faults

STEPS = 6

Train = Callable[..., Result]


def flipped(content: bytes, share: float) -> bytes:
    """One bit of one tensor changed; between them a zip has bytes that mean nothing."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = [m for m in file.infolist() if "/data" in m.filename and m.file_size]
    member = members[int(share * len(members))]
    lengths = struct.unpack_from("<HH", content, member.header_offset + 26)
    place = member.header_offset + 30 + sum(lengths) + member.file_size // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "cut to a tenth": lambda content: content[: len(content) // 10],
    "cut in half": lambda content: content[: len(content) // 2],
    "last byte missing": lambda content: content[:-1],
    "garbage at the end": lambda content: content + bytes(range(256)) * 400,
    "zeros at the end": lambda content: content[: len(content) // 2] + bytes(len(content) // 2),
    "text": lambda content: b"this is no checkpoint\n",
    "a page of zeros": lambda content: content[:8192] + bytes(4096) + content[12288:],
    "a bit of the first member": lambda content: flipped(content, 0.0),
    "a bit in the middle": lambda content: flipped(content, 0.5),
    "a bit of the last member": lambda content: flipped(content, 0.99),
}


@pytest.fixture(scope="module")
def train(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains through the command line, in this process."""
    data = tmp_path_factory.mktemp("damaged") / "data"

    def call(run: Path, steps: int, recipe: str = "smoke_asr") -> Result:
        settings = [f"recipe={recipe}", f"data.root={tiny_corpus}", f"data.dir={data}"]
        settings += ["train.deterministic=true", f"train.max_steps={steps}", f"run={run}"]
        settings += ["train.log_every=1", "train.evaluate_every=2", "data.validation=2"]
        settings += ["train.checkpoint_minutes=1e-9", "train.keep=10"]
        settings += ["data.test=1", "train.device=cpu"]
        return CliRunner().invoke(app, ["train", *settings])

    return call


@pytest.fixture(scope="module")
def straight(train: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that ended at STEPS, and the same as it was when step 4 was saved."""
    folder = tmp_path_factory.mktemp("straight")
    assert train(folder / "whole", STEPS).exit_code == 0
    shutil.copytree(folder / "whole", folder / "half")
    for path in checkpoints(folder / "half")[4:]:
        path.unlink()
    return folder / "whole", folder / "half"


@pytest.mark.parametrize("damage", DAMAGES)
def test_run_resumes_from_the_checkpoint_before_a_damaged_one(
    damage: str, straight: tuple[Path, Path], train: Train, tmp_path: Path, inject: Ledger
) -> None:
    whole, half = straight
    run = tmp_path / "run"
    shutil.copytree(half, run)
    newest = checkpoints(run)[-1]
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    with inject("damaged checkpoint"):
        result = train(run, STEPS)
        assert result.exit_code == 0, result.stderr
        warning = f"warning: {newest}: damaged or not a tacoskip checkpoint; trying the one before"
        assert warning in result.stderr.splitlines()
        assert f"resumed {run} at step 3" in result.stderr
        state, curves = outcome(run)
        expected, expected_curves = outcome(whole)
        assert same(state, expected)
        assert curves == expected_curves


def test_run_without_a_good_checkpoint_begins_anew(
    straight: tuple[Path, Path], train: Train, tmp_path: Path, inject: Ledger
) -> None:
    """Every one is named, and the run begins anew."""
    run = tmp_path / "run"
    shutil.copytree(straight[1], run)
    for path in checkpoints(run):
        path.write_bytes(b"")
    with inject("damaged checkpoint"):
        result = train(run, STEPS)
        assert result.exit_code == 0 and result.stderr.count("trying the one before") == 4
        assert same(outcome(run)[0], outcome(straight[0])[0])


@pytest.mark.parametrize("recipe", ["smoke", "smoke_asr"])
def test_two_runs_with_one_seed_are_equal_to_the_bit(
    recipe: str, train: Train, tmp_path: Path, inject: Ledger
) -> None:
    weights = []
    with inject("same seed, two runs"):
        for name in ("one", "two"):
            assert train(tmp_path / name, STEPS, recipe).exit_code == 0
            last = load_checkpoint(checkpoints(tmp_path / name)[-1])
            tensors = {**last.weights, **last.training["weights"]}
            weights.append(b"".join(tensors[key].numpy().tobytes() for key in sorted(tensors)))
        assert weights[0] == weights[1] and len(weights[0]) > 10_000
