"""Save the state of a run, resume it to the bit, keep the newest and the best checkpoints."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tacoskip.config import Config, public_dict
from tacoskip.config_checks import field_kinds, flatten
from tacoskip.files import folder_lock
from tacoskip.run_folder import (
    Checkpoint,
    RunError,
    checkpoints,
    config_of,
    load_checkpoint,
    not_finite,
    save_checkpoint,
)
from tacoskip.training.processes import Processes
from tacoskip.training.state import TrainingState, random_state, seed_process, set_random_state
from tacoskip.training.tasks import Task

# Settings that may differ between the machines of a run: where things lie, what a machine can do.
LOCAL = ("run", "data.root", "data.dir", "data.workers", "train.threads")


def shared_settings(config: Config) -> dict[str, Any]:
    """The settings that must be the same in all processes of a run, by dotted key."""
    settings = flatten(public_dict(config), field_kinds(Config))
    return {key: value for key, value in settings if key not in LOCAL}


class Checkpointer:
    """Checkpoints of one run. The main process reads and writes them for all.

    events: sizes of the event files when the resumed checkpoint was saved, see `Board.save`.
    """

    def __init__(
        self, task: Task, state: TrainingState, processes: Processes, log: Callable[..., None]
    ) -> None:
        self.config, self.task, self.state = task.config, task, state
        self.processes, self.log = processes, log
        self.run = Path(self.config.run)
        self.events: dict[str, int] | None = None
        self.saved_at = time.monotonic()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder for this run alone; write through no link of it."""
        with folder_lock(self.run) if self.processes.main else nullcontext():
            for name in ("checkpoints", "samples"):
                if (self.run / name).is_symlink():
                    raise RunError(f"{self.run / name}: expected a folder, got a link")
            yield

    @property
    def due(self) -> bool:
        return time.monotonic() - self.saved_at > 60 * self.config.train.checkpoint_minutes

    def save(self, events: dict[str, int] | None) -> None:
        """Write a numbered checkpoint and delete the oldest beyond `train.keep`.

        Later ones, which could not be read, do not count.
        """
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
            path = self._save(f"step-{state.step:08d}", training)
            own = [one for one in checkpoints(self.run) if one <= path]
            for old in own[: -self.config.train.keep]:
                old.unlink()
        self.saved_at = time.monotonic()

    def save_best(self) -> None:
        """Write best.pt: the averaged weights without the state of training."""
        self._save("best", {})

    def _save(self, name: str, training: dict[str, Any]) -> Path:
        task, path = self.task, self.run / "checkpoints" / f"{name}.pt"
        checkpoint = Checkpoint(
            config=public_dict(self.config),
            speakers=task.speakers,
            n_symbols=task.n_symbols,
            frames_per_symbol=task.frames_per_symbol,
            step=self.state.step,
            weights=self.state.average.weights,
            training=training,
            vocabulary=task.vocabulary_model,
            seen_symbols=task.seen_symbols,
        )
        save_checkpoint(checkpoint, path)
        return path

    def resume(self) -> bool:
        """Continue from the newest checkpoint that can be read; return whether there is one.

        One that cannot be read is named and skipped. Raises RunError for one of another task,
        corpus or network.
        """
        newest = self.processes.broadcast(self._newest() if self.processes.main else None)
        if newest is None:
            return False
        path, checkpoint = newest
        try:
            self._check_fits(checkpoint)
            self._restore(checkpoint)
        except Exception as error:  # a damaged state can fail in any way
            reason = "made with another network, or holds no training state to resume"
            reason = str(error) if isinstance(error, RunError) else reason
            raise RunError(f"{path}: {reason}; train into another folder with run=...") from None
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

    def _check_fits(self, checkpoint: Checkpoint) -> None:
        task = checkpoint.config.get("task")
        if task != self.config.task:
            raise RunError(f"a run with task={task}, this one has task={self.config.task}")
        local = self.task.speakers, self.task.n_symbols, self.task.vocabulary_model
        if local != (checkpoint.speakers, checkpoint.n_symbols, checkpoint.vocabulary):
            raise RunError("made with other speakers or symbols")

    def _restore(self, checkpoint: Checkpoint) -> None:
        state, training = self.state, checkpoint.training
        if name := not_finite(checkpoint.weights) or not_finite(training["weights"]):
            raise RunError(f"expected finite weights, got NaN or infinity in '{name}'")
        state.model.load_state_dict(training["weights"])
        state.optimizer.load_state_dict(training["optimizer"])
        state.set_counters(training["counters"])
        state.average.load(checkpoint.weights)
        self.task.frames_per_symbol = checkpoint.frames_per_symbol
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
            if value != old[key] and key not in ("recipe", "from_run")
        ]
        if changes:
            self.log(f"changed settings: {', '.join(changes)}")
