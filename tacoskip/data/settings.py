"""Settings of corpora and batches."""

from dataclasses import dataclass, field


@dataclass
class DataSettings:
    """Where the corpus is, which clips are kept, how they become batches.

    corpus: demo | ljspeech | vctk | fsdd | librispeech | folder. root: a folder that is already here ("" downloads, or
    for `demo` speaks, the corpus). dir: where prepared audio, manifest and report go ("" is data/<corpus>, with a
    suffix that tells apart another root or other settings).
    join: least and most clips of one speaker joined into a training utterance ([1, 1]: none).
    """

    corpus: str = "ljspeech"
    root: str = ""
    dir: str = ""
    subset: str = ""
    limit: int = 0
    min_seconds: float = 0.2
    max_seconds: float = 20.0
    trim_db: float = 40.0
    level_db: float = -26.0
    validation: int = 0
    test: int = 0
    join: list[int] = field(default_factory=lambda: [1, 1])
    batch_seconds: float = 160.0
    max_batch: int = 32
    workers: int = 1
