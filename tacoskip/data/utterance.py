"""What a corpus reader yields, and where it notes the rows it had to leave out."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Utterance:
    """One clip as its corpus describes it, before anything was decoded.

    normalized: the text as spoken words where the corpus supplies it, else None.
    split: "train" | "validation" | "test" where the corpus has an official split, else None.
    sentence: clips of one sentence are in the same split ("": the clip is alone in this).
    """

    id: str
    path: Path
    text: str
    speaker: str
    normalized: str | None = None
    split: str | None = None
    sentence: str = ""


@dataclass(frozen=True)
class Dropped:
    """A clip or row that is left out: `reason` is a code of docs/corpora.md, `detail` a phrase."""

    id: str
    path: str
    reason: str
    detail: str


@dataclass
class Notes:
    """What a reader leaves out (`dropped`) and what the user should know (`warnings`)."""

    dropped: list[Dropped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def drop(self, id: str, path: Path | str, reason: str, detail: str) -> None:
        self.dropped.append(Dropped(id, str(path), reason, detail))


def find_inside(root: Path, name: str | Path) -> Path | str:
    """Return the path of `name` under `root`, or the reason why it may not be read.

    root: resolved. A `..` that climbs out, an absolute path elsewhere and a link that leads out are
    refused: a table made by somebody else must not make this program read (and copy) other files.
    """
    relative = str(name).replace("\\", "/")
    if "\0" in relative:
        return "a path with a zero byte"
    path = root / relative
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        return f"a path that does not resolve ({type(error).__name__})"
    if not resolved.is_relative_to(root):
        return "a path or link that leads out of the corpus"
    return path
