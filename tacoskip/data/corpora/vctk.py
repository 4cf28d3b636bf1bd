"""VCTK: 110 speakers of English with many accents (Yamagishi, Veaux, MacDonald 2019)."""

from collections.abc import Iterator
from pathlib import Path

from tacoskip.data.corpora import Archive, Corpus
from tacoskip.data.errors import LayoutError
from tacoskip.data.settings import DataSettings
from tacoskip.data.tables import read_lines
from tacoskip.data.utterance import Notes, Utterance


class VCTK(Corpus):
    """0.92 (flac, microphone 1) or 0.80 (wav48): `txt/SPEAKER/ID.txt` beside the audio."""

    name = "vctk"
    sample_rate = 22050
    licence = "CC BY 4.0"
    citation = "Yamagishi, Veaux, MacDonald, CSTR VCTK Corpus 0.92, doi:10.7488/ds/2645, 2019"
    archives = (
        Archive(
            "https://datashare.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
            "f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
        ),
    )

    def read(self, root: Path, data: DataSettings, notes: Notes) -> Iterator[Utterance]:
        inner = (root, root / "VCTK-Corpus-0.92", root / "VCTK-Corpus")
        base = next((path for path in inner if (path / "txt").is_dir()), None)
        if base is None:
            raise LayoutError(f"expected VCTK's folder txt/ in {root}, found none")
        for text in sorted((base / "txt").glob("*/*.txt")):
            id, speaker = text.stem, text.parent.name
            path = base / f"wav48_silence_trimmed/{speaker}/{id}_mic1.flac"
            older = base / f"wav48/{speaker}/{id}.wav"
            words = " ".join(read_lines(root, text, notes)).strip()
            yield Utterance(id, older if older.exists() else path, words, speaker)
