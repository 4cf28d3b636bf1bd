"""What a training run carries from step to step."""

import hashlib
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from tacoskip.data.batches import TrainBatches
from tacoskip.training.settings import TrainSettings

WEIGHT_DECAY = 1e-6

RandomState = dict[str, Tensor]  # of generators, by device


class WeightAverage:
    """Exponential moving average of weights, what a run is judged and used with. Averages all
    floating weights and statistics; others are copied.

    The decay rises with the step, (1 + step) / (10 + step), up to `decay`, so that the first
    average is not the initial noise. The optimizer's steps never see it.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        values = model.state_dict()
        floating = [name for name, value in values.items() if value.is_floating_point()]
        average = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        average(
            [self.weights[name] for name in floating], [values[name] for name in floating], step
        )
        for name in values.keys() - floating:
            self.weights[name].copy_(values[name])

    def load(self, weights: dict[str, Tensor]) -> None:
        """Go on from saved averages; raises KeyError when a weight is missing."""
        for name, value in self.weights.items():
            value.copy_(weights[name])


@dataclass
class Counters:
    """Plain values that a checkpoint holds.

    minutes: training time over all resumes. steps_skipped: steps that were not finite, in all;
    skipped_in_a_row: since the last good one. rate_factor: share of the learning rate left after
    roll-backs. best, last: figures of evaluations; clips: the last of each clip. evaluated,
    analyzed: the steps of the last evaluation and of the final analysis. started_from: what was
    taken from the run of `from=RUN`.
    """

    step: int = 0
    minutes: float = 0.0
    steps_skipped: int = 0
    skipped_in_a_row: int = 0
    rate_factor: float = 1.0
    best: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    clips: dict[str, list[float]] = field(default_factory=dict)
    evaluated: int = -1
    analyzed: int = -1
    started_from: str = ""


@dataclass(kw_only=True)
class TrainingState(Counters):
    """Network, optimizer, averaged weights, position in the data, and counters."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage
    batches: TrainBatches
    scaler: torch.amp.GradScaler | None

    def counters(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(Counters)}

    def set_counters(self, counters: dict[str, Any]) -> None:
        """Restore what `counters` returned; one that an older version lacks stays."""
        for name, value in self.counters().items():
            setattr(self, name, type(value)(counters.get(name, value)))


def new_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Return AdamW for a network on its device."""
    parameters = list(model.parameters())
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        weight_decay=WEIGHT_DECAY,
        fused=parameters[0].device.type == "cuda",
    )


def random_state(device: torch.device) -> RandomState:
    """Return the generators' states."""
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
