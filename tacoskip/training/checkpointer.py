"""Save the state of a run, resume it to the bit, keep the newest and the best checkpoints."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacoskip.config import Config, to_dict
from tacoskip.config_checks import field_kinds, flatten
from tacoskip.run_folder import (
    Checkpoint,
    RunError,
    checkpoints,
    config_of,
    load_checkpoint,
    save_checkpoint,
)
from tacoskip.training.processes import Processes
from tacoskip.training.state import TrainingState
from tacoskip.training.tasks import Task

Log = Callable[..., None]

# Settings that may differ between the machines of a run: where things lie, what a machine can do.
LOCAL = ("run", "data.root", "data.dir", "data.workers", "train.threads")


def shared_settings(config: Config) -> dict[str, Any]:
    """The settings that must be the same in all processes of a run, by dotted key."""
    settings = flatten(to_dict(config), field_kinds(Config))
    return {key: value for key, value in settings if key not in LOCAL}


class Checkpointer:
    """Checkpoints of one run. The main process reads and writes them for all.

    events: sizes of the event files when the resumed checkpoint was saved, see `Board.save`.
    """

    def __init__(
        self, config: Config, task: Task, state: TrainingState, processes: Processes, log: Log
    ) -> None:
        self.config, self.task, self.state = config, task, state
        self.processes, self.log = processes, log
        self.run = Path(config.run)
        self.events: dict[str, int] | None = None
        self.saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self.saved_at > 60 * self.config.train.checkpoint_minutes

    def save(self, events: dict[str, int] | None) -> None:
        """Write a numbered checkpoint and delete the oldest beyond `train.keep`."""
        state = self.state
        training = {
            "weights": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "scaler": state.scaler.state_dict() if state.scaler else {},
            "batches": state.batches.state_dict(),
            "counters": state.counters(),
            "random": self.processes.gather_objects(random_state(self.processes.device)),
            "events": events,
        }
        if self.processes.main:
            path = self.run / "checkpoints" / f"step-{state.step:08d}.pt"
            save_checkpoint(self._checkpoint(training), path)
            for old in checkpoints(self.run)[: -self.config.train.keep]:
                old.unlink()
        self.saved_at = time.monotonic()

    def save_best(self) -> None:
        """Write best.pt: the averaged weights without the state of training."""
        save_checkpoint(self._checkpoint({}), self.run / "checkpoints" / "best.pt")

    def _checkpoint(self, training: dict[str, Any]) -> Checkpoint:
        return Checkpoint(
            config=to_dict(self.config),
            speakers=self.task.speakers,
            n_symbols=self.task.n_symbols,
            frames_per_symbol=self.state.frames_per_symbol,
            step=self.state.step,
            weights=self.state.average.weights,
            training=training,
            vocabulary=self.task.vocabulary_model,
            seen_symbols=self.task.seen_symbols,
        )

    def resume(self) -> bool:
        """Continue from the newest checkpoint that can be read; return whether there is one.

        One that cannot be read is named and skipped. Raises RunError for one of another task,
        corpus or network.
        """
        newest = self.processes.broadcast(self._newest() if self.processes.main else None)
        if newest is None:
            return False
        path, checkpoint = newest
        self._check_fits(checkpoint, path)
        try:
            self.state.model.load_state_dict(checkpoint.training["weights"])
            self.state.optimizer.load_state_dict(checkpoint.training["optimizer"])
        except (RuntimeError, ValueError):
            raise self._refusal(path, "made with another network") from None
        except Exception:  # a damaged state can fail in any way
            raise self._refusal(path, "holds no training state to resume") from None
        try:
            self._restore(checkpoint)
        except Exception:
            raise self._refusal(path, "holds no training state to resume") from None
        self._log_changes(config_of(checkpoint, path))
        self.log(f"resumed {self.run} at step {self.state.step}")
        return True

    def _newest(self) -> tuple[Path, Checkpoint] | None:
        for part in (self.run / "checkpoints").glob("*.part"):  # of a process that was killed
            part.unlink()
        for path in reversed(checkpoints(self.run)):
            try:
                # On the CPU: the optimizer's steps must stay there.
                return path, load_checkpoint(path)
            except RunError as error:
                self.log(f"{error}; trying the one before", warning=True)
        return None

    def _check_fits(self, checkpoint: Checkpoint, path: Path) -> None:
        task = checkpoint.config.get("task")
        if task != self.config.task:
            reason = f"a run with task={task}, this one has task={self.config.task}"
            raise self._refusal(path, reason)
        local = self.task.speakers, self.task.n_symbols, self.task.vocabulary_model
        if local != (checkpoint.speakers, checkpoint.n_symbols, checkpoint.vocabulary):
            raise self._refusal(path, "made with other speakers or symbols")

    def _refusal(self, path: Path, reason: str) -> RunError:
        return RunError(f"{path}: {reason}; train into another folder with run=...")

    def _restore(self, checkpoint: Checkpoint) -> None:
        state, training = self.state, checkpoint.training
        state.set_counters(training["counters"])
        state.average.load(checkpoint.weights)
        state.frames_per_symbol = checkpoint.frames_per_symbol
        state.batches.load_state_dict(training["batches"])
        if state.scaler and training["scaler"]:
            state.scaler.load_state_dict(training["scaler"])
        randoms, rank = training["random"], self.processes.rank
        if len(randoms) == self.processes.count or rank == 0:
            set_random_state(randoms[rank], self.processes.device)
        else:
            seed_process(self.config.seed, rank, state.step)
        events = training["events"]
        self.events = {str(name): max(0, int(size)) for name, size in events.items()}

    def _log_changes(self, before: Config) -> None:
        """Name the settings that differ from the checkpoint's in one line."""
        old = shared_settings(before)
        changes = [
            f"{key}: {old[key]} -> {value}"
            for key, value in shared_settings(self.config).items()
            if value != old[key] and key != "recipe"
        ]
        if changes:
            self.log(f"changed settings: {', '.join(changes)}")


RandomState = dict[str, Tensor]


def random_state(device: torch.device) -> RandomState:
    """The states of the generators that training draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Restore what `random_state` returned."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def seed_process(seed: int, rank: int, step: int) -> None:
    """Give a process that is not the main one its own random numbers, for dropout of its rows."""
    if rank:
        digest = hashlib.sha256(f"process {seed} {rank} {step}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:8], "big", signed=True))
