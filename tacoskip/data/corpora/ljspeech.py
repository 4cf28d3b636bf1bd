"""LJ Speech: one reader, 24 hours of English prose (Ito and Johnson, 2017)."""

from collections.abc import Iterator
from pathlib import Path

from tacoskip.data.corpora import Archive, Corpus
from tacoskip.data.settings import DataSettings
from tacoskip.data.tables import read_pipes
from tacoskip.data.utterance import Notes, Utterance


class LJSpeech(Corpus):
    """`metadata.csv` (id|text|text as spoken words) and `wavs/ID.wav`."""

    name = "ljspeech"
    sample_rate = 22050
    licence = "public domain"
    citation = "Keith Ito and Linda Johnson, The LJ Speech Dataset 1.1, 2017"
    archives = (
        Archive(
            "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
            "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
        ),
    )
    inner = "LJSpeech-1.1"

    def read(self, root: Path, data: DataSettings, notes: Notes) -> Iterator[Utterance]:
        yield from read_pipes(root, root / "metadata.csv", "LJ", notes)
