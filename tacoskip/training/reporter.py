"""What a run reports: progress for the caller, events for TensorBoard, the environment."""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import torch
from torch import nn

from tacoskip.config import Config, save_config
from tacoskip.training.board import Board
from tacoskip.training.parameter_matching import ParameterMatch
from tacoskip.training.processes import Processes
from tacoskip.training.state import TrainingState

PACKAGES = ("tacoskip", "torch", "torchaudio", "accelerate", "numpy", "librosa")


@dataclass
class Progress:
    """State of a run: every `train.log_every` steps, and with every `message`.

    share: of the run that is done, 0..1. minutes: of training, over all resumes. elapsed_seconds:
    since this process began; remaining_seconds: estimated from it, None before the first step.
    """

    step: int
    share: float
    minutes: float
    scalars: dict[str, float] = field(default_factory=dict)
    message: str = ""
    warning: bool = False
    elapsed_seconds: float = 0.0
    remaining_seconds: float | None = None


class Reporter:
    """Reports for the main process; in the others it is silent."""

    board: Board  # of the main process alone

    def __init__(
        self, config: Config, main: bool, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self.settings, self.run, self.main = config.train, Path(config.run), main
        self.on_progress = on_progress if main else None
        self.state: TrainingState | None = None
        self._started, self._first_share = time.monotonic(), 0.0

    def open(self, state: TrainingState, resumed: bool, events: dict[str, int] | None) -> None:
        """Begin to report a state; events: see `Checkpointer`."""
        self.state = state
        self._started, self._first_share = time.monotonic(), state.progress(self.settings)
        if self.main:
            self.board = Board(self.run, state.step if resumed else None, events)

    def reopen(self, events: dict[str, int] | None) -> None:
        """Continue from an earlier step, after a roll-back."""
        if self.main:
            self.board.close()
            self.board = Board(self.run, self.state.step if self.state else None, events)

    def log(self, message: str, warning: bool = False) -> None:
        """Report a line."""
        self._progress({}, message, warning)

    def scalars(self, scalars: dict[str, float]) -> None:
        """Report the scalars of a training step."""
        assert self.state is not None
        self.board.scalars("train", scalars, self.state.step)
        self._progress(scalars)

    def _progress(
        self, scalars: dict[str, float], message: str = "", warning: bool = False
    ) -> None:
        if self.on_progress is None:
            return
        elapsed = time.monotonic() - self._started
        if self.state is None:
            progress = Progress(0, 0.0, 0.0, scalars, message, warning, elapsed)
        else:
            share = self.state.progress(self.settings)
            done = share - self._first_share
            remaining = elapsed * (1 - share) / done if done > 0 else None
            step, minutes = self.state.step, self.state.minutes
            progress = Progress(step, share, minutes, scalars, message, warning, elapsed, remaining)
        self.on_progress(progress)

    def close(self) -> None:
        if self.main and self.state is not None:
            self.board.close()


def write_environment(
    config: Config,
    model: nn.Module,
    processes: Processes,
    speakers: list[str],
    match: ParameterMatch | None,
    kernels: dict[str, str],
) -> None:
    """Write config.yaml and environment.json: what the run is made of and where it runs.

    kernels: which modules are replaced by faster ones, see `kernels.accelerate.describe`.
    """
    run = Path(config.run)
    run.mkdir(parents=True, exist_ok=True)
    save_config(config, run / "config.yaml")
    environment = {
        "folder": str(Path.cwd()),  # that relative paths of config.yaml count from
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processes": processes.count,
        "threads": torch.get_num_threads(),
        "kernels": kernels,
        "device": str(processes.device),
        "gpu": torch.cuda.get_device_name() if processes.device.type == "cuda" else None,
        "precision": config.train.precision,
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": commit(),
        "seed": config.seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "speakers": speakers,
        "match": asdict(match) | {"percent": match.percent} if match else None,
    }
    text = json.dumps(environment, indent=2) + "\n"
    (run / "environment.json").write_text(text, encoding="utf-8")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of the code: of the checkout's .git, else as pip recorded it, else None."""
    try:
        return _checked_out(Path(__file__).resolve().parents[2] / ".git")
    except (OSError, StopIteration):
        pass
    try:
        origin = distribution("tacoskip").read_text("direct_url.json")
        return str(json.loads(origin or "{}")["vcs_info"]["commit_id"])
    except (PackageNotFoundError, KeyError, ValueError):
        return None


def _checked_out(git: Path) -> str:
    """Read HEAD as git does, without git: in a worktree .git is a file that names the folder."""
    if git.is_file():
        git = git.parent / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref: "):
        return head
    name = head.removeprefix("ref: ")
    shared = git / "commondir"
    common = git / shared.read_text(encoding="utf-8").strip() if shared.is_file() else git
    for folder in (git, common):
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8").strip()
    packed = (common / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next(line.split()[0] for line in packed if line.endswith(f" {name}"))
