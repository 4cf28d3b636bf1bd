"""Where the corpora come from when `data.root` names no folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tacoskip.data.corpora import LIBRISPEECH_SUBSETS
from tacoskip.data.download import fetch, unpack
from tacoskip.data.settings import DataSettings


@dataclass(frozen=True)
class Source:
    """An archive.

    sha256: as published, "" where none is (see `download.fetch`). inner: the corpus inside the
    unpacked folder.
    """

    url: str
    sha256: str = ""
    inner: str = ""


SOURCES = {
    "ljspeech": Source(
        "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
        "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
        "LJSpeech-1.1",
    ),
    "vctk": Source(
        "https://datashare.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
        "f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
    ),
    "fsdd": Source(
        "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",
        inner="free-spoken-digit-dataset-1.0.10",
    ),
}

LIBRISPEECH_URL = "https://www.openslr.org/resources/12/"
LIBRISPEECH_SHA256 = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}

Progress = Callable[[int, int, str], None]


def find_root(data: DataSettings, downloads: Path, progress: Progress) -> Path:
    """Return the folder that holds the corpus: `data.root`, or `downloads` after fetching it.

    Raises CorpusError when it cannot be had, ValueError when a setting is wrong.
    """
    if data.root:
        return Path(data.root)
    if data.corpus == "demo":
        from tacoskip.data.demo import speak_corpus

        return speak_corpus(downloads / "demo", progress)
    if data.corpus == "librispeech":
        return _librispeech(data.subset, downloads / "librispeech", progress)
    if data.corpus not in SOURCES:
        raise ValueError(f"expected data.root, a folder, with data.corpus={data.corpus}, got none")
    source = SOURCES[data.corpus]
    folder = downloads / data.corpus
    if not folder.exists():
        archive = fetch(
            source.url, downloads / source.url.rsplit("/", 1)[1], source.sha256, progress
        )
        unpack(archive, folder, progress)
    return folder / source.inner


def _librispeech(subset: str, folder: Path, progress: Progress) -> Path:
    names = [name.strip() for name in (subset or LIBRISPEECH_SUBSETS).split(",")]
    unknown = [name for name in names if name not in LIBRISPEECH_SHA256]
    if unknown:
        raise ValueError(
            f"expected data.subset of {', '.join(LIBRISPEECH_SHA256)}, got {unknown[0]!r}"
        )
    for name in names:
        part = folder / "parts" / name
        if not part.exists():
            archive = f"{name}.tar.gz"
            fetch(LIBRISPEECH_URL + archive, folder / archive, LIBRISPEECH_SHA256[name], progress)
            unpack(folder / archive, part, progress)
    return folder / "parts"
