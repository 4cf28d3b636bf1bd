"""ARCTIC: readers of the same 1,132 English sentences (Kominek and Black 2003)."""

import re
from collections.abc import Iterator
from pathlib import Path

from tacoskip.data.corpora import Archive, Corpus
from tacoskip.data.errors import LayoutError
from tacoskip.data.settings import DataSettings
from tacoskip.data.tables import read_lines, read_pipes
from tacoskip.data.utterance import Notes, Utterance

URL = "http://festvox.org/cmu_arctic/packed/cmu_us_{}_arctic.tar.bz2"
SHA256 = {  # as torchaudio lists them
    "slt": "7c173297916acf3cc7fcab2713be4c60b27312316765a90934651d367226b4ea",
    "bdl": "26b91aaf48b2799b2956792b4632c2f926cd0542f402b5452d5adecb60942904",
}
FESTVOX = re.compile(r"cmu_us_(\w+)_arctic")
PROMPT = re.compile(r'\(\s*(\S+)\s+"(.*)"\s*\)')


class Arctic(Corpus):
    """A folder a reader: `SPEAKER/metadata.csv` (id|text) and `SPEAKER/wavs/ID.flac`, or festvox'
    `cmu_us_SPEAKER_arctic/etc/txt.done.data` and `wav/ID.wav`.

    `data.speaker` chooses readers; slt (woman) and bdl (man) can be downloaded. A third one,
    kathleen (woman, CC0), is at github.com/rhasspy/dataset-voice-kathleen, for data.root as a
    folder of the first kind. A sentence is in the same split for all readers.
    """

    name = "arctic"
    sample_rate = 16000
    licence = "free for any use, credit festvox.org/cmu_arctic (slt, bdl); CC0 (kathleen)"
    citation = "Kominek and Black, CMU ARCTIC databases for speech synthesis, CMU-LTI-03-177, 2003"
    archives = tuple(Archive(URL.format(name), SHA256[name], name) for name in SHA256)

    def chosen_parts(self, data: DataSettings) -> list[str]:
        return data.speakers()[0]

    def read(self, root: Path, data: DataSettings, notes: Notes) -> Iterator[Utterance]:
        folders = _speakers(root)
        if not folders:
            raise LayoutError(
                f"expected SPEAKER/metadata.csv or cmu_us_SPEAKER_arctic/etc/txt.done.data in "
                f"{root}, found none"
            )
        for speaker, folder in folders.items():
            if (folder / "metadata.csv").is_file():
                rows = read_pipes(folder, folder / "metadata.csv", speaker, notes)
            else:
                rows = _festvox(folder, speaker, notes)
            for row in rows:
                id = f"{speaker}_{row.id}"
                yield Utterance(id, row.path, row.text, speaker, sentence=row.id)


def _speakers(root: Path) -> dict[str, Path]:
    """Return the folders of readers in `root`, or `root` itself, by name."""
    folders = {}
    for pattern in ("", "*/", "*/*/"):
        for table in root.glob(f"{pattern}metadata.csv"):
            folders[table.parent.name] = table.parent
        for table in root.glob(f"{pattern}etc/txt.done.data"):
            match = FESTVOX.fullmatch(table.parents[1].name)
            folders[match[1] if match else table.parents[1].name] = table.parents[1]
    return dict(sorted(folders.items()))


def _festvox(folder: Path, speaker: str, notes: Notes) -> Iterator[Utterance]:
    table = folder / "etc" / "txt.done.data"
    for number, line in enumerate(read_lines(folder, table, notes), 1):
        match = PROMPT.fullmatch(line.strip())
        if match:
            yield Utterance(match[1], folder / "wav" / f"{match[1]}.wav", match[2], speaker)
        elif line.strip():
            notes.drop("", table, "bad_row", f'line {number}: expected ( ID "TEXT" )')
