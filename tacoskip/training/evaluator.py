"""Evaluates the averaged network of a run, and analyzes it at the end."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from tacoskip.config import Config
from tacoskip.data.loading import Batch
from tacoskip.kernels.accelerate import accelerate
from tacoskip.training.checkpointer import Checkpointer
from tacoskip.training.reporter import Reporter
from tacoskip.training.state import TrainingState
from tacoskip.training.tasks import Task

ANALYZED = 2  # validation batches that the final analysis takes


class Evaluator:
    """Works in the main process, and changes nothing of the training."""

    def __init__(
        self,
        config: Config,
        task: Task,
        state: TrainingState,
        reporter: Reporter,
        checkpointer: Checkpointer,
        device: torch.device,
    ) -> None:
        self.config, self.task, self.state = config, task, state
        self.reporter, self.checkpointer, self.device = reporter, checkpointer, device

    def evaluate(self) -> None:
        """Evaluate on validation clips, and keep the network if it is the best so far."""
        state, task, reporter = self.state, self.task, self.reporter
        with self._own_random():
            model = self.averaged()
            figures = task.evaluate(model, reporter.board, state.frames_per_symbol, state.step)
        reporter.board.scalars("validation", figures, state.step)
        reporter.board.writer.flush()
        better = not state.best or task.rank(figures) > task.rank(state.best)
        line = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        reporter.log(f"step {state.step}: {line}" + (" (best so far)" if better else ""))
        state.last = figures
        if better:
            state.best = figures
            self.checkpointer.save_best()
        advice = task.advice(figures, state.step)
        if advice:
            reporter.log(f"step {state.step}: {advice}", warning=True)

    def analyze(self) -> None:
        """Measure lesions and path lengths of the finished network."""
        with self._own_random():
            model, batches = self.averaged(), self.task.validation[-ANALYZED:]
            # The longest batches say most; they are last.
            losses = [partial(self._loss, model, batch) for batch in batches]
            self.reporter.board.analysis(model, losses, self.state.step)

    def averaged(self) -> Any:
        """A network with the averaged weights, apart from the one in training."""
        model = self.task.build(self.config)
        model.load_state_dict(self.state.average.weights)
        return accelerate(model.to(self.device).eval())

    def _loss(self, model: Any, batch: Batch) -> Tensor:
        return self.task.validation_loss(model, batch)[0]

    def _own_random(self) -> Any:
        """Draw random numbers apart from training's, which must not change."""
        return torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])
