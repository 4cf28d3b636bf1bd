"""Evaluates the averaged network of a run, and analyzes it at the end.

Works in the main process, and changes nothing of the training.
"""

from functools import partial
from typing import Any

import torch

from tacoskip.kernels.accelerate import accelerate
from tacoskip.training.checkpointer import Checkpointer
from tacoskip.training.reporter import Reporter
from tacoskip.training.state import TrainingState
from tacoskip.training.tasks import Task

ANALYZED = 2  # validation batches of the final analysis
ADVICE_STEPS = 2000  # a run that has learned nothing by then gets advice


class Evaluator:
    """Evaluates the state of a run; the best network so far is kept."""

    def __init__(
        self, task: Task, state: TrainingState, reporter: Reporter, checkpointer: Checkpointer
    ) -> None:
        self.task, self.state = task, state
        self.reporter, self.checkpointer = reporter, checkpointer

    def evaluate(self) -> None:
        """Evaluate on validation clips, and keep the network if it is the best so far."""
        state, task, reporter = self.state, self.task, self.reporter
        with self._own_random():
            figures = task.evaluate(self._averaged(), reporter.board, state.step)
        reporter.board.scalars("validation", figures, state.step)
        reporter.board.writer.flush()
        # A judge may have come since the best one so far.
        same = figures.keys() <= state.best.keys()
        better = not same or task.rank(figures) > task.rank(state.best)
        line = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        reporter.log(f"step {state.step}: {line}" + (" (best so far)" if better else ""))
        state.last, state.clips = figures, task.clips
        if better:
            state.best = figures
            self.checkpointer.save_best()
        if state.step >= ADVICE_STEPS and (advice := task.advice(figures)):
            reporter.log(f"step {state.step}: {advice}", warning=True)

    def analyze(self) -> None:
        """Measure lesions of the finished network."""
        with self._own_random():
            model, batches = self._averaged(), self.task.validation[-ANALYZED:]
            # The longest batches say most; they are last.
            loss = self.task.validation_loss
            losses = [partial(lambda batch: loss(model, batch)[0], batch) for batch in batches]
            self.reporter.board.analysis(model, losses, self.state.step)

    def _averaged(self) -> Any:
        """A network with the averaged weights, apart from the one in training."""
        model = self.task.build(self.task.config)
        model.load_state_dict(self.state.average.weights)
        return accelerate(model.to(self.checkpointer.processes.device).eval())

    def _own_random(self) -> Any:
        """Draw random numbers apart from training's, which must not change."""
        device = self.checkpointer.processes.device
        return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
