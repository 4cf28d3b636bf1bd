"""Settings of corpora and batches."""

from dataclasses import dataclass
from pathlib import Path
from pkgutil import iter_modules
from typing import Protocol

from tacoskip.audio.settings import AudioSettings
from tacoskip.settings import setting
from tacoskip.text.settings import TextSettings


def corpus_names() -> tuple[str, ...]:
    """Return the names of the files of `tacoskip.data.corpora`."""
    return tuple(sorted(file.name for file in iter_modules([f"{Path(__file__).parent}/corpora"])))


@dataclass
class DataSettings:
    """Where the corpus is, which clips are kept, how they become batches."""

    corpus: str = setting(
        "ljspeech",
        "A corpus' name, or my_package.my_module:MyCorpus.",
        choices=corpus_names,
        others=lambda _: True,  # `find_corpus` checks it
    )
    root: str = setting(
        "",
        "The corpus' folder; empty: fetch it (demo: synthesize it). Also a prepared corpus, as a "
        "folder or an address (https://, s3://, ...).",
    )
    dir: str = setting(
        "",
        "Folder of prepared audio, manifest and report; empty: data/<corpus>, with a suffix that "
        "tells apart another root or other settings.",
    )
    shards: str = setting(
        "", "Folder that prepare also writes the corpus to, in a few large files."
    )
    subset: str = setting("", "LibriSpeech's parts, separated by commas; empty: its default.")
    speaker: str = setting(
        "",
        "Speakers to use, separated by commas; empty: all. -NAME: neither trained on nor validated "
        "with, the test split keeps them.",
    )
    columns: str = setting(
        "", "Columns of a folder's table that are named otherwise: path=file,text=sentence."
    )
    limit: int = setting(0, "At most so many clips; 0: all.")
    max_seconds: float = setting(20.0, "Longer clips are left out.", above=0)
    validation: int = setting(0, "Clips to validate with; 0: the corpus' own, or about 2 %.")
    test: int = setting(0, "Clips to test with; 0: the corpus' own, or about 2 %.")
    join: list[int] = setting(
        [1, 1], "Least and most clips of a speaker joined to a training utterance.", least=1
    )
    batch_seconds: float = setting(160.0, "Seconds of audio in a batch, padding included.", above=0)
    max_batch: int = setting(32, "Most utterances in a batch.", above=0)
    workers: int = setting(1, "Threads that build batches ahead; 0: none.")

    def __post_init__(self) -> None:
        if len(self.join) != 2 or self.join[0] > self.join[1]:
            raise ValueError(f"expected data.join = [least, most] clips, got {self.join}")

    def speakers(self) -> tuple[list[str], list[str]]:
        """Return the names in `speaker`: those to use (none: all), those kept for the test."""
        names = [name.strip() for name in self.speaker.split(",") if name.strip()]
        used = [name for name in names if not name.startswith("-")]
        return used, [name[1:] for name in names if name.startswith("-")]


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


class CorpusConfig(Protocol):
    """The sections of a config that decide what a prepared corpus holds."""

    data: DataSettings
    audio: AudioSettings
    text: TextSettings
