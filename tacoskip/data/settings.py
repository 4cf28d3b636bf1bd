"""Settings of corpora and batches."""

from dataclasses import dataclass

from tacoskip.settings import setting


@dataclass
class DataSettings:
    """Where the corpus is, which clips are kept, how they become batches."""

    corpus: str = setting(
        "ljspeech",
        "How the corpus is laid out, and where it is fetched from.",
        choices=("demo", "ljspeech", "vctk", "fsdd", "librispeech", "folder"),
    )
    root: str = setting("", "The corpus' folder; empty: fetch it (demo: synthesize it).")
    dir: str = setting(
        "",
        "Folder of prepared audio, manifest and report; empty: data/<corpus>, with a suffix that "
        "tells apart another root or other settings.",
    )
    shards: str = setting(
        "", "Folder that prepare also writes shards to; data.root may name them, also by URL."
    )
    subset: str = setting("", "LibriSpeech's parts, separated by commas; empty: its default.")
    limit: int = setting(0, "At most so many clips; 0: all.")
    min_seconds: float = setting(0.1, "Shorter clips are left out.")
    max_seconds: float = setting(20.0, "Longer clips are left out.", above=0)
    trim_db: float = setting(40.0, "Silence this far below the peak is trimmed; 0: no trimming.")
    level_db: float = setting(-26.0, "Clips are scaled to this RMS level.", least=-120, most=0)
    validation: int = setting(0, "Clips to validate with; 0: the corpus' own, or about 2 %.")
    test: int = setting(0, "Clips to test with; 0: the corpus' own, or about 2 %.")
    leave_out: list[str] = setting([], "Speakers not trained on; the test split keeps them.")
    train_share: float = setting(1.0, "Share of the training clips to use.", above=0, most=1)
    extra: list[str] = setting([], "Folders of more prepared corpora that a recognizer trains on.")
    join: list[int] = setting(
        [1, 1], "Least and most clips of a speaker joined to a training utterance.", least=1
    )
    batch_seconds: float = setting(160.0, "Seconds of audio in a batch, padding included.", above=0)
    max_batch: int = setting(32, "Most utterances in a batch.", above=0)
    workers: int = setting(1, "Threads that build batches ahead; 0: none.")
    cache_mb: float = setting(2000.0, "Memory for features of clips that come again.")

    def __post_init__(self) -> None:
        if len(self.join) != 2 or self.join[0] > self.join[1]:
            raise ValueError(f"expected data.join = [least, most] clips, got {self.join}")
        if self.min_seconds >= self.max_seconds:
            got = f"{self.min_seconds:g} and {self.max_seconds:g}"
            raise ValueError(f"expected data.min_seconds < data.max_seconds, got {got}")


@dataclass
class AugmentSettings:
    """How a recognizer's training clips are changed; each clip, epoch and seed repeats it."""

    speed: list[float] = setting(
        [], "Speed factors, one drawn for each clip (tempo and pitch together).", least=0.5, most=2
    )
    noise_db: list[float] = setting(
        [], "Least and most dB of speech above the added noise; empty: no noise.", least=-100
    )
    noise_share: float = setting(0.5, "Share of the clips with added noise.", most=1)
    silence_seconds: float = setting(0.0, "Most near-silence added before, and after.")

    def __post_init__(self) -> None:
        noise = self.noise_db
        if noise and (len(noise) != 2 or noise[0] > noise[1]):
            raise ValueError(f"expected augment.noise_db = [least, most], got {noise}")
