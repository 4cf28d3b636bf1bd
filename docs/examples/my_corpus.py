"""A corpus from outside: `sounds/ID.wav`, and `book.txt` with a line `ID: text` for each.

tacoskip train recipe=mine data.corpus=my_corpus:Book data.root=/my/book
"""

from collections.abc import Iterator
from pathlib import Path

from tacoskip.data.corpora import Corpus
from tacoskip.data.settings import DataSettings
from tacoskip.data.utterance import Notes, Utterance


class Book(Corpus):
    """One reader of one book."""

    name = "book"
    sample_rate = 8000
    licence = "CC0"

    def read(self, root: Path, data: DataSettings, notes: Notes) -> Iterator[Utterance]:
        for number, line in enumerate((root / "book.txt").read_text().splitlines(), 1):
            id, colon, text = line.partition(": ")
            if colon:
                yield Utterance(id, root / "sounds" / f"{id}.wav", text, speaker="reader")
            else:
                notes.drop(id, root / "book.txt", "bad_row", f"line {number}: expected ID: text")
