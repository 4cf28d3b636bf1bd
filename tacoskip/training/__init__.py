"""Training: the loop, its state and checkpoints, what it reports.

Names load on first use, so that the settings, which every command reads, need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacoskip.training.device import check_device
    from tacoskip.training.loop import train
    from tacoskip.training.reporter import Progress

__all__ = ["Progress", "check_device", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.loop"), name)
