"""Exponential moving average of weights: what a run speaks and is judged with."""

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages all floating weights and statistics; others are copied.

    The decay rises with the step, (1 + step) / (10 + step), up to `decay`, so that the first
    average is not the initial noise. The optimizer's steps never see it.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                averages.append(self.weights[name])
                values.append(value)
            else:
                self.weights[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Go on from saved averages; raises KeyError when a weight is missing."""
        for name, value in self.weights.items():
            value.copy_(weights[name])
