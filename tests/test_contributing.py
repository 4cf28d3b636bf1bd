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
    """A copy of the package with everything of CONTRIBUTING.md in it."""
    folder = tmp_path_factory.mktemp("contributing")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tacoskip", folder / "tacoskip", ignore=ignored)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    found = FENCE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert [kind for kind, _, _ in found] == ["python", "diff", "diff"]
    for kind, path, content in found:
        file = folder / path
        if kind == "diff":
            content = apply_diff(file.read_text(encoding="utf-8"), content)
        file.write_text(content, encoding="utf-8")
    return folder


def run(copy: Path, *command: str) -> str:
    environment = dict(os.environ, PYTHONPATH=str(copy), OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, *command],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_new_skip_and_block_keep_the_contract(copy: Path) -> None:
    code = """
import tacoskip
from tacoskip.blocks import build_block, check_contract
check_contract(build_block("residual", 8, 3, skip="halved"), channels=8)
check_contract(build_block("halved", 8, 3), channels=8)
print(tacoskip.__file__)
"""
    assert str(copy) in run(copy, "-c", code)


def test_new_attention_trains(copy: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    settings = [f"data.root={tiny_corpus}", f"data.dir={tmp_path}/data", f"run={tmp_path}/run"]
    settings += ["tts.attention=uniform", "block=residual", "skip=halved", "train.max_steps=2"]
    run(copy, "-m", "tacoskip.cli", "train", "recipe=smoke", *settings)
    assert list((tmp_path / "run" / "checkpoints").glob("*.pt"))
