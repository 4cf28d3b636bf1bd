"""Free Spoken Digit Dataset: six speakers, digits over a telephone band (Jackson et al.)."""

import re
from collections.abc import Iterator
from pathlib import Path

from tacoskip.data.corpora import Archive, Corpus
from tacoskip.data.errors import LayoutError
from tacoskip.data.settings import DataSettings
from tacoskip.data.utterance import Notes, Utterance

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAME = re.compile(r"(\d)_([A-Za-z0-9]+)_(\d+)\.wav")


class FSDD(Corpus):
    """`recordings/{digit}_{speaker}_{take}.wav`; takes 0-4 are the published test split."""

    name = "fsdd"
    sample_rate = 8000
    licence = "CC BY-SA 4.0"
    citation = "Zohar Jackson et al., Free Spoken Digit Dataset v1.0.10, doi:10.5281/zenodo.1342401"
    archives = (
        Archive(
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip"
        ),
    )
    inner = "free-spoken-digit-dataset-1.0.10"

    def read(self, root: Path, data: DataSettings, notes: Notes) -> Iterator[Utterance]:
        folder = root / "recordings" if (root / "recordings").is_dir() else root
        paths = sorted(folder.glob("*.wav"))
        if not any(NAME.fullmatch(path.name) for path in paths):
            instead = f"{len(paths)} other wavs" if paths else "none"
            raise LayoutError(f"expected DIGIT_SPEAKER_TAKE.wav in {folder}, found {instead}")
        for path in paths:
            match = NAME.fullmatch(path.name)
            if match is None:
                notes.drop(path.stem, path, "bad_row", "expected the name DIGIT_SPEAKER_TAKE.wav")
                continue
            digit, speaker, take = match.groups()
            word, split = DIGITS[int(digit)], "test" if int(take) < 5 else None
            yield Utterance(path.stem, path, word, speaker, normalized=word, split=split)
