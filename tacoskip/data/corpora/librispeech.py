"""LibriSpeech: 1,000 hours of read English books (Panayotov et al. 2015)."""

from collections.abc import Iterator
from pathlib import Path

from tacoskip.data.corpora import Archive, Corpus
from tacoskip.data.errors import LayoutError
from tacoskip.data.settings import DataSettings
from tacoskip.data.tables import read_lines
from tacoskip.data.utterance import Notes, Utterance

DEFAULT = "train-clean-100,dev-clean,test-clean"
URL = "https://www.openslr.org/resources/12/"
SHA256 = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}


class LibriSpeech(Corpus):
    """`PART/SPEAKER/CHAPTER/*.trans.txt` (ID TEXT) beside `ID.flac`.

    data.subset: parts by comma. `dev-*` is the validation split, `test-*` the test split: the
    corpus' own, whose speakers are in no training part.
    """

    name = "librispeech"
    sample_rate = 16000
    licence = "CC BY 4.0"
    citation = "Panayotov, Chen, Povey, Khudanpur, LibriSpeech, ICASSP 2015"
    archives = tuple(Archive(f"{URL}{part}.tar.gz", SHA256[part], part) for part in SHA256)
    settings = ("subset",)

    def chosen_parts(self, data: DataSettings) -> list[str]:
        return [name.strip() for name in (data.subset or DEFAULT).split(",")]

    def read(self, root: Path, data: DataSettings, notes: Notes) -> Iterator[Utterance]:
        for part in self.chosen_parts(data):
            layouts = (f"{part}/LibriSpeech/{part}", f"LibriSpeech/{part}", part)
            folder = next((root / one for one in layouts if (root / one).is_dir()), None)
            if folder is None:
                there = sorted({p.parents[2].name for p in root.glob("**/*/*/*.trans.txt")})
                instead = f"{', '.join(there)}: set data.subset=" if there else "none"
                raise LayoutError(f"expected LibriSpeech's part {part} in {root}, found {instead}")
            split = {"dev": "validation", "test": "test"}.get(part.split("-")[0])
            for table in sorted(folder.glob("*/*/*.trans.txt")):
                speaker = table.parts[-3]
                for line in read_lines(root, table, notes):
                    id, _, text = line.strip().partition(" ")
                    if id:
                        path = table.with_name(f"{id}.flac")
                        yield Utterance(id, path, text, speaker, split=split)
