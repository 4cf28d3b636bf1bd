"""What a training run carries from step to step."""

from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import nn

from tacoskip.data.batches import TrainBatches
from tacoskip.training import schedule
from tacoskip.training.ema import WeightAverage
from tacoskip.training.settings import TrainSettings
from tacoskip.training.tasks import Task

WEIGHT_DECAY = 1e-6


@dataclass
class TrainingState:
    """Network, optimizer, averaged weights, position in the data, and counters.

    minutes: training time over all resumes. steps_skipped: steps that were not finite, in all;
    skipped_in_a_row: since the last good one. batches_split: batches that memory did not hold at
    once. rate_factor: share of the learning rate left after roll-backs. best, last: figures of
    evaluations. evaluated, analyzed: the steps of the last evaluation and of the final analysis.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage
    batches: TrainBatches
    scaler: torch.amp.GradScaler | None
    frames_per_symbol: float
    step: int = 0
    minutes: float = 0.0
    steps_skipped: int = 0
    skipped_in_a_row: int = 0
    batches_split: int = 0
    rate_factor: float = 1.0
    best: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    evaluated: int = -1
    analyzed: int = -1

    def progress(self, settings: TrainSettings) -> float:
        """Share of the run that is done, 0..1."""
        return schedule.progress(settings, self.step, self.minutes)

    def counters(self) -> dict[str, Any]:
        """The plain values, from `step` on."""
        names = [each.name for each in fields(self)]
        return {name: getattr(self, name) for name in names[names.index("step") :]}

    def set_counters(self, counters: dict[str, Any]) -> None:
        """Restore what `counters` returned; raises KeyError when one is missing."""
        for name, value in self.counters().items():
            setattr(self, name, type(value)(counters[name]))


def new_state(
    task: Task,
    settings: TrainSettings,
    scaler: torch.amp.GradScaler | None,
    frames_per_symbol: float,
) -> TrainingState:
    """The state before the first step. The network is on its device."""
    model: nn.Module = task.model
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        weight_decay=WEIGHT_DECAY,
        fused=parameters[0].device.type == "cuda",
    )
    average = WeightAverage(model)
    return TrainingState(model, optimizer, average, task.batches, scaler, frames_per_symbol)
