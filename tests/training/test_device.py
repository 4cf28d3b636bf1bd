"""What a run takes from its machine: arithmetic, copies to a GPU, and what it can do without."""

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch

import tacoskip
from tacoskip.config import Config
from tacoskip.data.loading import Batch
from tacoskip.kernels import accelerate
from tacoskip.training import train
from tacoskip.training.device import set_tf32
from tacoskip.training.loop import Trainer

from .conftest import Prepared

# Starts tacoskip as from a folder of sources: no wheel's metadata of it can be found.
WITHOUT_METADATA = """
import importlib.metadata as metadata
found = metadata.MetadataPathFinder.find_distributions
def others(context=metadata.DistributionFinder.Context()):
    return [one for one in found(context) if one.name != "tacoskip"]
metadata.MetadataPathFinder.find_distributions = others
from tacoskip.cli import main
main()
"""


@pytest.fixture
def settings(prepared: Prepared) -> Config:
    config = prepared("smoke")
    config.train.max_steps, config.train.log_every = 1, 1
    config.train.sentences = []
    return config


def test_training_needs_no_git_metadata_or_compiler(settings: Config, tmp_path: Path) -> None:
    run, source = tmp_path / "bare", Path(tacoskip.__file__).parents[1]
    environment = {"PYTHONPATH": str(source), "HOME": str(tmp_path), "PATH": "", "CC": ""}
    environment |= {"OMP_NUM_THREADS": "1", "TACOSKIP_DEVICE_FEATURES": "1"}
    call = [sys.executable, "-c", WITHOUT_METADATA]
    own = [f"data.root={settings.data.root}", f"data.dir={settings.data.dir}", f"run={run}"]
    limits = ["data.validation=3", "data.test=2", "train.max_steps=1", "train.sentences=[]"]
    done = subprocess.run(
        [*call, "train", "recipe=smoke", *own, *limits, "train.device=cpu"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "features: computed from samples on the device" in done.stdout + done.stderr
    written = json.loads((run / "environment.json").read_text())
    assert written["packages"]["tacoskip"] is None and written["packages"]["torch"]
    assert not list(tmp_path.glob(".cache/tacoskip/kernels-*"))  # what a compiler would make
    version = subprocess.run([*call, "--version"], env=environment, capture_output=True, text=True)
    assert version.stdout == "tacoskip not installed\n"


def test_tf32_is_one_switch_and_stated(settings: Config) -> None:
    cudnn: Any = torch.backends.cudnn
    backends: Any = (torch.backends.cuda.matmul, cudnn.conv)
    set_tf32(True)
    assert {backend.fp32_precision for backend in backends} == {"tf32"}
    train(settings)  # on a CPU it is off
    assert {backend.fp32_precision for backend in backends} == {"ieee"}
    written = json.loads((Path(settings.run) / "environment.json").read_text())
    assert written["tf32"] is False


@pytest.mark.parametrize("samples", ["0", "1"])
def test_batches_are_pinned_and_copied_without_waiting(
    settings: Config, samples: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned, copied = list[Batch](), list[bool]()

    def pin(batch: Batch) -> Batch:
        pinned.append(batch)
        return batch

    def to(batch: Batch, device: Any, non_blocking: bool = False) -> Batch:
        assert any(batch is one for one in pinned)
        copied.append(non_blocking)
        return batch

    def run(trainer: Trainer) -> int:
        trainer.state.batches.pin_memory = True  # as on a GPU
        trainer.summary = {}
        return int(not trainer.step())

    monkeypatch.setenv("TACOSKIP_DEVICE_FEATURES", samples)
    monkeypatch.setattr(Batch, "pin_memory", pin)
    monkeypatch.setattr(Batch, "to", to)
    monkeypatch.setattr(Trainer, "run", run)
    train(settings)
    assert copied == [True]


def test_without_a_compiler_or_headers_a_gpu_takes_no_triton_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kernels() -> set[str]:
        return {entry.fast.__module__ for entry in accelerate.replacements(torch.device("cuda"))}

    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_paths", lambda scheme: {"include": str(tmp_path)})
    monkeypatch.setattr(shutil, "which", lambda name: name and f"/bin/{name}")
    assert accelerate.missing_for_triton() == ""
    assert any("triton" in name for name in kernels())
    (tmp_path / "Python.h").unlink()
    assert "Python.h" in accelerate.missing_for_triton()
    assert not any("triton" in name for name in kernels())
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert accelerate.missing_for_triton() == "a C compiler (gcc or clang)"
    assert not any("triton" in name for name in kernels())
