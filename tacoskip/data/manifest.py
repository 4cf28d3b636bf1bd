"""What a prepared corpus' manifest may say: a stranger's must not reach outside its folder."""

import math
import os
from pathlib import Path
from typing import Any

from tacoskip.data.errors import CorpusError


def is_texts(values: Any) -> bool:
    """Whether these are a list of texts, and some."""
    return isinstance(values, list) and bool(values) and all(isinstance(v, str) for v in values)


class ManifestCheck:
    """Raises CorpusError, which names the clip, for a cut that `write_cuts` would not write.

    root: the prepared folder. What lies in it is read, nothing else, and no command is run.
    """

    def __init__(self, root: Path, speakers: list[str]) -> None:
        self.root, self.speakers = os.path.realpath(root), set(speakers)
        self._inside: dict[str, bool] = {}  # by folder: to resolve each file's takes too long

    def __call__(self, cut: Any) -> None:
        from lhotse import MonoCut

        id = str(getattr(cut, "id", "?"))[:80]
        try:
            whole = isinstance(cut, MonoCut) and self._is_sound(cut)
        except (AttributeError, TypeError, IndexError, KeyError, ValueError):
            whole = False
        if not whole:
            raise CorpusError(f"{self.root}: no sound manifest, clip {id!r} is not as prepared")
        (source,) = cut.recording.sources
        if source.type != "file" or not self._is_inside(source.source):
            raise CorpusError(
                f"{self.root}: the manifest reaches outside the corpus, clip {id!r}: "
                f"{str(source.source)[:100]!r}"
            )

    def _is_sound(self, cut: Any) -> bool:
        (supervision,) = cut.supervisions
        (source,) = cut.recording.sources
        texts = (cut.id, supervision.text, supervision.custom["normalized"], source.source)
        return (
            not cut.custom
            and all(isinstance(text, str) for text in texts)
            and supervision.speaker in self.speakers
            and type(cut.duration) in (int, float)
            and 0 < cut.duration < math.inf
        )

    def _is_inside(self, name: str) -> bool:
        path = os.path.join(self.root, name)
        folder = os.path.dirname(path)
        if folder not in self._inside:
            real = os.path.realpath(folder)
            self._inside[folder] = real == self.root or real.startswith(self.root + os.sep)
        return self._inside[folder] and not os.path.islink(path) and "\0" not in name
