"""The steps of CONTRIBUTING.md, followed on a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r'^```(\w+) title="([^"]+)"\n(.*?)^```', re.M | re.S)


def apply_diff(text: str, diff: str) -> str:
    """Insert the `+` lines behind the line that precedes them, or before the one that follows."""
    before: str | None = None
    added: list[str] = []
    for line in [*diff.splitlines(), " "]:
        if line.startswith("+"):
            added.append(line[1:])
            continue
        if added:
            block = "\n".join(added)
            anchor = before if before is not None else line[1:]
            assert text.count(f"{anchor}\n") == 1, f"expected one line {anchor!r}"
            both = f"{anchor}\n{block}\n" if before is not None else f"{block}\n{anchor}\n"
            text, added = text.replace(f"{anchor}\n", both), []
        before = line[1:]
    return text


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its tests with everything of CONTRIBUTING.md in it."""
    folder = tmp_path_factory.mktemp("copy")
    for part in ("tacoskip", "recipes", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    found = FENCE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert [kind for kind, _, _ in found] == ["python", "diff", "diff", "python"]
    for kind, path, content in found:
        file = folder / path
        if kind == "diff":
            content = apply_diff(file.read_text(encoding="utf-8"), content)
        file.write_text(content, encoding="utf-8")
    return folder


SCRIPT = """
import sys
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter
from typer.testing import CliRunner

import tacoskip
from tacoskip.blocks import build_block, check_contract
from tacoskip.cli import app

SummaryWriter.add_figure = lambda *_: None  # slower than a tiny run
assert Path(tacoskip.__file__).is_relative_to(Path.cwd()), tacoskip.__file__
check_contract(build_block("residual", 8, 3, skip="halved"), channels=8)
result = CliRunner().invoke(app, ["train", *sys.argv[1:]])
assert result.exit_code == 0, result.stderr
walks = ["blocks/test_blocks.py", "models/test_attention.py", "data/test_download.py"]
walks += ["test_layers.py", "test_config.py"]
new = "halved or dot_product or book or corpora"
sys.exit(pytest.main(["-q", "-n0", "-k", new, *(f"tests/{walk}" for walk in walks)]))
"""


def test_additions_train_and_pass_the_tests_that_walk_the_tables(
    copy: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    book = tmp_path / "book"
    shutil.copytree(tiny_corpus / "wavs", book / "sounds")
    rows = (row.split("|") for row in (tiny_corpus / "metadata.csv").read_text().splitlines())
    (book / "book.txt").write_text("".join(f"{id}: {text}\n" for id, text, _ in rows))
    settings = [
        "recipe=smoke",
        "data.corpus=book",
        f"data.root={book}",
        "tts.attention=dot_product",
    ]
    settings += ["block=halved", f"data.dir={tmp_path}/data", f"run={tmp_path}/run"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *settings, "train.max_steps=2", "train.sentences=[]"],
        cwd=copy,
        env=dict(os.environ, PYTHONPATH=str(copy), OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert list((tmp_path / "run" / "checkpoints").glob("*.pt"))
