"""What a run is made of and where it runs: environment.json, and RUN/README.md for people."""

import json
import platform
import shutil
import subprocess
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path

import torch

from tacoskip.config import save_config
from tacoskip.files import write_whole
from tacoskip.training.parameter_matching import ParameterMatch
from tacoskip.training.processes import Processes
from tacoskip.training.state import TrainingState
from tacoskip.training.tasks import Task

PACKAGES = ("tacoskip", "torch", "torchaudio", "accelerate", "numpy", "librosa")

# By task: what it is, how to use it on the command line and in Python.
USES = {
    "tts": ("voice (text to speech)", 'synthesize {} "Hello there."', 'synthesize("Hello")'),
    "asr": ("recognizer (speech to text)", "transcribe {} file.wav", 'transcribe("file.wav")'),
}


def write_environment(
    task: Task,
    state: TrainingState,
    processes: Processes,
    kernels: dict[str, str],
    match: ParameterMatch | None,
) -> None:
    """Write config.yaml and environment.json.

    kernels: which modules are replaced by faster ones, see `kernels.accelerate.describe`.
    """
    config, device = task.config, processes.device
    run = Path(config.run)
    save_config(config, run / "config.yaml")
    environment = {
        "folder": str(Path.cwd()),  # that relative paths of config.yaml count from
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processes": processes.count,
        "threads": torch.get_num_threads(),
        "kernels": kernels,
        "device": str(device),
        "gpu": torch.cuda.get_device_name() if device.type == "cuda" else None,
        "precision": config.train.precision,
        "tf32": torch.backends.cuda.matmul.fp32_precision == "tf32",
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": commit(),
        "seed": config.seed,
        "started_from": state.started_from or None,
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "speakers": task.speakers,
        "match": asdict(match) | {"percent": match.percent} if match else None,
    }
    write_whole(run / "environment.json", json.dumps(environment, indent=2) + "\n")


def _version(package: str) -> str | None:
    return next((one.version for one in distributions(name=package)), None)


def commit() -> str | None:
    """The commit of the code: of the checkout, by git, else as pip recorded it, else None."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        head = subprocess.run(command, capture_output=True, text=True, check=False)
        return head.stdout.strip() or None
    origins = [one.read_text("direct_url.json") for one in distributions(name="tacoskip")]
    pip: dict[str, dict[str, str]] = json.loads(next(iter(origins), None) or "{}")
    return pip.get("vcs_info", {}).get("commit_id")


def write_model_card(task: Task, state: TrainingState) -> None:
    """Write the card of a run."""
    config, speakers = task.config, task.speakers
    changes = {"skip": config.skip, "topology": config.topology}
    names = ", ".join(speakers[:8]) + (", ..." if len(speakers) > 8 else "")
    rows = {
        "recipe": config.recipe,
        "block": config.block + "".join(f", {key} {name}" for key, name in changes.items() if name),
        "parameters": f"{sum(p.numel() for p in state.model.parameters()):,}",
        "corpus": f"{config.data.corpus}: {len(state.batches.clips)} clips for training, "
        f"{len(speakers)} speaker{'s' * (len(speakers) != 1)} ({names})",
        "text": task.text_kind,
        "audio": f"{config.audio.sample_rate} Hz, {config.audio.n_mels} mel bands",
        "training": f"{state.step} steps, {state.minutes:.1f} minutes, seed {config.seed}",
        "weights": state.started_from,
        "code": f"tacoskip at commit {commit() or 'unknown'}",
    }
    figures = [
        f"| {name} | {value:.3f} | {state.last.get(name, value):.3f} |"
        for name, value in state.best.items()
    ]
    kind, command, method = USES[config.task]
    text = f"""# {Path(config.run).name}

A {kind}, trained with tacoskip.

| | |
|---|---|
{chr(10).join(f"| {name} | {value} |" for name, value in rows.items() if value)}

## Figures on the validation clips

| figure | best checkpoint | last |
|---|---|---|
{chr(10).join(figures)}

`best.pt` is chosen by `{config.train.select}`. `metrics.json`, where it exists, holds what
`tacoskip evaluate` measured.

## Use

```sh
tacoskip {command.format(config.run)}
```

```python
import tacoskip
model = tacoskip.load("{config.run}")
model.{method}
```

`config.yaml` holds all settings, `environment.json` the versions and the machine; `tacoskip board`
shows the curves.
"""
    write_whole(Path(config.run) / "README.md", text)
