"""Corpora of speech and text: read, checked and prepared once, then served as batches.

Names load on first use: `tacoskip.data.settings`, which every command reads, needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tacoskip.data.settings import DataSettings

if TYPE_CHECKING:
    from tacoskip.data.batches import TrainBatches, validation_batches
    from tacoskip.data.clip import Clip, JoinedClips
    from tacoskip.data.errors import CorpusError
    from tacoskip.data.loading import Batch, clip_mels, feature_statistics
    from tacoskip.data.prepare import PrepareReport
    from tacoskip.data.prepared import PreparedCorpus

_HOME = {
    "Batch": "loading",
    "Clip": "clip",
    "CorpusError": "errors",
    "JoinedClips": "clip",
    "PrepareReport": "prepare",
    "PreparedCorpus": "prepared",
    "TrainBatches": "batches",
    "clip_mels": "loading",
    "feature_statistics": "loading",
    "validation_batches": "batches",
}

__all__ = [
    "Batch",
    "Clip",
    "CorpusError",
    "DataSettings",
    "JoinedClips",
    "PrepareReport",
    "PreparedCorpus",
    "TrainBatches",
    "clip_mels",
    "feature_statistics",
    "validation_batches",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
