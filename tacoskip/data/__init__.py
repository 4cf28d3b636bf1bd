"""Corpora of speech and text: read, checked and prepared once, then served as batches.

Names load on first use: `tacoskip.data.settings`, which every command reads, needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tacoskip.data.settings import DataSettings

if TYPE_CHECKING:
    from tacoskip.data.batches import TrainBatches, validation_batches
    from tacoskip.data.corpus import Corpus, prepared_dir
    from tacoskip.data.errors import CorpusError
    from tacoskip.data.joining import spoken
    from tacoskip.data.loading import Batch, clip_mels, feature_statistics
    from tacoskip.data.prepare import PrepareReport
    from tacoskip.data.shards import clip_wave, picked

_HOME = {
    "Batch": "loading",
    "Corpus": "corpus",
    "CorpusError": "errors",
    "PrepareReport": "prepare",
    "TrainBatches": "batches",
    "clip_mels": "loading",
    "clip_wave": "shards",
    "feature_statistics": "loading",
    "picked": "shards",
    "prepared_dir": "corpus",
    "spoken": "joining",
    "validation_batches": "batches",
}

__all__ = [
    "Batch",
    "Corpus",
    "CorpusError",
    "DataSettings",
    "PrepareReport",
    "TrainBatches",
    "clip_mels",
    "clip_wave",
    "feature_statistics",
    "picked",
    "prepared_dir",
    "spoken",
    "validation_batches",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
