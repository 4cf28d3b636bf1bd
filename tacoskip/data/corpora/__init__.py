"""Known corpora, one file each: what the folder looks like, how it is read, where it comes from.

A module of this package holds one subclass of `Corpus` and is named as it is. A corpus from outside
is `data.corpus=my_package.my_module:MyCorpus`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import ClassVar

from tacoskip.data.download import Progress, fetch, unpack
from tacoskip.data.settings import DataSettings, corpus_names
from tacoskip.data.utterance import Notes, Utterance
from tacoskip.messages import known


@dataclass(frozen=True)
class Archive:
    """A file to download.

    sha256: "" where none is published. folder: where in the corpus' folder it is unpacked.
    """

    url: str
    sha256: str = ""
    folder: str = ""


class Corpus(ABC):
    """A corpus of speech and text. Subclass it in one file; only `name` and `read` are required.

    name: what `data.corpus` calls it. sample_rate: at which its recipes use it (0: any); another
    one is prepared into a folder of its own. licence, citation: for the model card. archives: what
    is downloaded where `data.root` is empty. inner: the corpus inside the unpacked archive.
    settings: which of `data.subset` and `data.columns` it reads.
    """

    name: ClassVar[str]
    sample_rate: ClassVar[int] = 0
    licence: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    archives: ClassVar[tuple[Archive, ...]] = ()
    inner: ClassVar[str] = ""
    settings: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def read(self, root: Path, data: DataSettings, notes: Notes) -> Iterator[Utterance]:
        """Yield the clips of the folder `root`, which is resolved.

        A row that cannot be used goes to `notes.drop`, never into an exception; `prepare` leaves
        out paths that lead out of the folder. Raises LayoutError when `root` is another corpus.
        """

    def chosen_parts(self, data: DataSettings) -> list[str]:
        """Return the folders of the archives to download for these settings; none: all."""
        return []

    def fetch(self, downloads: Path, data: DataSettings, progress: Progress) -> Path:
        """Download and unpack what is not there yet; return the corpus' folder.

        Raises CorpusError when it cannot be had, ValueError when there is nothing to download.
        """
        archives = {archive.folder: archive for archive in self.archives}
        if not archives:
            raise ValueError(f"expected data.root=FOLDER with data.corpus={data.corpus}, got none")
        chosen = self.chosen_parts(data) or list(archives)
        for part in chosen:
            if part not in archives:
                known = ", ".join(archives)
                raise ValueError(f"expected {known} to download, got {part!r}: set data.root")
        for part in chosen:
            archive, target = archives[part], downloads / self.name / part
            if not target.exists():
                file = downloads / archive.url.rpartition("/")[2]
                unpack(fetch(archive.url, file, archive.sha256, progress), target, progress)
        return downloads / self.name / self.inner


def built_in(name: str) -> Corpus | None:
    """Return a corpus of this package, or None for a name from outside (nothing is imported)."""
    if name not in corpus_names():
        return None
    import_module(f"{__name__}.{name}")
    return next(c() for c in Corpus.__subclasses__() if c.__module__ == f"{__name__}.{name}")


def find_corpus(name: str) -> Corpus:
    """Return the corpus of a name, or of `package.module:Class`.

    The latter imports code from outside: call it for what a user typed, never for the config of a
    checkpoint. Raises ValueError for an unknown name, or when the import fails.
    """
    corpus = built_in(name)
    if corpus is not None:
        return corpus
    module, colon, kind = name.partition(":")
    if not colon:
        known("data.corpus", name, corpus_names())
    try:
        found = getattr(import_module(module), kind)()
    except (ImportError, AttributeError, TypeError) as error:  # also where `read` is missing
        raise ValueError(f"cannot use data.corpus={name}: {error}") from error
    if not isinstance(found, Corpus):
        raise ValueError(f"expected a subclass of tacoskip.data.corpora.Corpus, got {name}")
    return found
