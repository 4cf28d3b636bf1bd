"""Anybody's own recordings: a folder with a table, or with a text file beside each recording."""

from collections.abc import Iterator
from pathlib import Path

from tacoskip.data.corpora import Corpus
from tacoskip.data.settings import DataSettings
from tacoskip.data.tables import read_folder
from tacoskip.data.utterance import Notes, Utterance


class Folder(Corpus):
    """A csv or tsv table, or pairs like `a.wav` and `a.txt`."""

    name = "folder"
    settings = ("columns",)

    def read(self, root: Path, data: DataSettings, notes: Notes) -> Iterator[Utterance]:
        yield from read_folder(root, data.columns, notes)
