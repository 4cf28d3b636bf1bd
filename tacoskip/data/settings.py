"""Settings of corpora and batches."""

from dataclasses import dataclass, field


@dataclass
class DataSettings:
    """Where the corpus is, which clips are kept, how they become batches.

    corpus: demo | ljspeech | vctk | fsdd | librispeech | folder. root: a folder that is already
    here ("" downloads, or for `demo` speaks, the corpus). dir: where prepared audio, manifest and
    report go ("" is data/<corpus>, with a suffix that tells apart another root or other settings).
    shards: a folder that `prepare` also writes the corpus into as shards, which need no copy where
    they are trained on (`root` may name them there, as a folder or URL).
    subset: LibriSpeech's parts, by comma. limit: at most so many clips (0: all).
    validation, test: clips in these splits (0: the corpus' own split, or about 2 %).
    leave_out: speakers that are neither trained on nor validated with; the test split keeps them.
    train_share: share of the other training clips that is used. extra: folders of other prepared
    corpora whose training clips a recognizer learns from too.
    join: least and most clips of one speaker joined into a training utterance ([1, 1]: none).
    workers: threads that build batches ahead (0: none). cache_mb: memory for features of clips
    that come again every epoch.
    """

    corpus: str = "ljspeech"
    root: str = ""
    dir: str = ""
    shards: str = ""
    subset: str = ""
    limit: int = 0
    min_seconds: float = 0.1
    max_seconds: float = 20.0
    trim_db: float = 40.0
    level_db: float = -26.0
    validation: int = 0
    test: int = 0
    leave_out: list[str] = field(default_factory=list)
    train_share: float = 1.0
    extra: list[str] = field(default_factory=list)
    join: list[int] = field(default_factory=lambda: [1, 1])
    batch_seconds: float = 160.0
    max_batch: int = 32
    workers: int = 1
    cache_mb: float = 2000.0


@dataclass
class AugmentSettings:
    """How training clips are changed each time they come; each clip, epoch and seed repeats it.

    speed: factors, one drawn for each clip (tempo and pitch together); none keep it as it is.
    noise_db: least and most dB that speech stands above added noise, in `noise_share` of the clips
    (none: no noise). silence_seconds: at most so much near-silence before, and after.
    """

    speed: list[float] = field(default_factory=list)
    noise_db: list[float] = field(default_factory=list)
    noise_share: float = 0.5
    silence_seconds: float = 0.0
