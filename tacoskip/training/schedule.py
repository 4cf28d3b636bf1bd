"""What follows a schedule in training: the learning rate and the reduction factor."""

import math

from tacoskip.models.settings import TacotronSettings
from tacoskip.training.settings import TrainSettings

FINAL_RATE = 0.05  # share of the highest learning rate


def progress(settings: TrainSettings, step: int, minutes: float) -> float:
    """Share of the run that is done, 0..1: by steps or by the clock, whichever is further."""
    share = step / settings.max_steps
    if settings.max_minutes > 0:
        share = max(share, minutes / settings.max_minutes)
    return min(share, 1.0)


def learning_rate(settings: TrainSettings, step: int, minutes: float) -> float:
    """Linear warm-up, then a cosine down to FINAL_RATE of the peak at the end of the run."""
    warmup = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * progress(settings, step, minutes)))
    return settings.learning_rate * warmup * (FINAL_RATE + (1 - FINAL_RATE) * cosine)


def reduction(settings: TacotronSettings, step: int) -> int:
    """Frames a decoder step at this training step: the last entry of the schedule to have begun."""
    frames = settings.frames_per_step
    for start, scheduled in settings.reduction_schedule:
        if step >= start:
            frames = scheduled
    return frames
