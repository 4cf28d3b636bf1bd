"""tacoskip: a lab and a pipeline for speech, and for the skip connections inside its networks.

    import tacoskip
    voice = tacoskip.load("runs/ljspeech")
    speech = voice.synthesize("Hello.")

Nothing is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacoskip.ablation.ablate import ablate
    from tacoskip.data.prepare import prepare
    from tacoskip.loading import load
    from tacoskip.training.loop import train

__all__ = ["ablate", "load", "prepare", "train"]

_FUNCTIONS = {
    "ablate": "ablation.ablate",
    "load": "loading",
    "prepare": "data.prepare",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(import_module(f"tacoskip.{_FUNCTIONS[name]}"), name)
    try:
        return import_module(f"tacoskip.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"tacoskip.{name}":
            raise
        raise AttributeError(f"module 'tacoskip' has no attribute {name!r}") from None
