"""VCTK: 110 speakers of English with many accents (Yamagishi, Veaux, MacDonald 2019)."""

from collections.abc import Iterator
from pathlib import Path

from tacoskip.data.corpora import Archive, Corpus
from tacoskip.data.errors import LayoutError
from tacoskip.data.settings import DataSettings
from tacoskip.data.tables import read_lines
from tacoskip.data.utterance import Notes, Utterance, find_inside


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

    def looks_like(self, root: Path) -> bool:
        return (root / "txt").is_dir()

    def read(self, root: Path, data: DataSettings, notes: Notes) -> Iterator[Utterance]:
        inner = (root, root / "VCTK-Corpus-0.92", root / "VCTK-Corpus")
        base = next((path for path in inner if (path / "txt").is_dir()), None)
        if base is None:
            raise LayoutError(f"expected VCTK's folder txt/ in {root}, found none")
        for text_path in sorted((base / "txt").glob("*/*.txt")):
            id, speaker = text_path.stem, text_path.parent.name
            names = (
                f"wav48_silence_trimmed/{speaker}/{id}_mic1.flac",
                f"wav48/{speaker}/{id}.wav",
            )
            name = next((n for n in names if (base / n).exists()), names[0])
            path, text = find_inside(root, base / name), find_inside(root, text_path)
            if isinstance(path, str) or isinstance(text, str):
                refused = path if isinstance(path, str) else str(text)
                notes.drop(id, base / name, "leaves_corpus", refused)
                continue
            lines = [line for _, line in read_lines(text, notes) if line.strip()]
            yield Utterance(id, path, " ".join(lines).strip(), speaker)
