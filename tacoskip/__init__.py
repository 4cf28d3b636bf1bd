"""tacoskip: a lab and a pipeline for speech, and for the skip connections inside its networks.

    import tacoskip
    voice = tacoskip.load("runs/ljspeech")
    speech = voice.synthesize("Hello.")

Nothing is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacoskip.loading import load

__all__ = ["load"]

_MODULES = (
    "ablation",
    "audio",
    "blocks",
    "config",
    "data",
    "evaluation",
    "kernels",
    "models",
    "probes",
    "recognition",
    "synthesis",
    "text",
    "training",
)


def __getattr__(name: str) -> Any:
    if name == "load":
        return import_module("tacoskip.loading").load
    if name in _MODULES:
        return import_module(f"tacoskip.{name}")
    raise AttributeError(f"module 'tacoskip' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_MODULES])
