"""What changes while a run goes on: learning rate, reduction factor, weight of the guided loss."""

import math

from tacoskip.models.settings import LossSettings, TacotronSettings
from tacoskip.training.settings import TrainSettings


def progress(settings: TrainSettings, step: int, minutes: float) -> float:
    """Share of the run that is done, 0..1: by steps or by the clock, whichever is further."""
    share = step / settings.max_steps
    if settings.max_minutes > 0:
        share = max(share, minutes / settings.max_minutes)
    return min(share, 1.0)


def learning_rate(settings: TrainSettings, step: int, minutes: float) -> float:
    """Linear warm-up, then a cosine down to `final_learning_rate_ratio` of the peak."""
    warmup = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    share = (
        step / settings.decay_steps if settings.decay_steps else progress(settings, step, minutes)
    )
    cosine = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    floor = settings.final_learning_rate_ratio
    return settings.learning_rate * warmup * (floor + (1 - floor) * cosine)


def reduction(settings: TacotronSettings, step: int) -> int:
    """Frames a decoder step at this training step: the last entry of the schedule to have begun."""
    frames = settings.frames_per_step
    for start, scheduled in settings.reduction_schedule:
        if step >= start:
            frames = scheduled
    return frames


def guided_weight(settings: LossSettings, step: int) -> float:
    """Weight of the guided attention loss, faded out linearly over `guided_steps`."""
    if not settings.guided_steps:
        return settings.guided
    return settings.guided * max(0.0, 1 - step / settings.guided_steps)
