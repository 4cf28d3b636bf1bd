"""Training on accelerate: one loop, its session, what it shows."""

from tacoskip.training.loop import Progress, train

__all__ = ["Progress", "train"]
