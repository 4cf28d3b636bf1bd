"""What a corpus reader yields, and where it notes the rows it had to leave out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tacoskip.data.errors import CorpusError, Rejected


@dataclass
class Utterance:
    """One clip: as its corpus describes it, then with what `prepare` finds.

    normalized: the text as spoken words; None where the corpus does not supply it.
    split: "train" | "validation" | "test" where the corpus has an official split, else None.
    sentence: clips of one sentence are in the same split ("": the clip is alone in this).
    Of prepare: lost: characters without a symbol, counted. samples: of the prepared clip.
    rate: as recorded. rejected: why it is left out.
    """

    id: str
    path: Path
    text: str
    speaker: str
    normalized: str | None = None
    split: str | None = None
    sentence: str = ""
    lost: Mapping[str, int] = field(default_factory=dict)
    samples: int = 0
    rate: int = 0
    rejected: Rejected | None = None


@dataclass(frozen=True)
class Dropped:
    """A clip or row that is left out: `reason` is a code, `detail` a phrase."""

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
        texts = (id, str(path), reason, detail)  # names of files need not be UTF-8
        self.dropped.append(Dropped(*(t.encode(errors="backslashreplace").decode() for t in texts)))


def find_inside(root: Path, name: str | Path) -> Path:
    """Return the path of `name` under `root` (resolved).

    Raises CorpusError for a `..` that climbs out, an absolute path elsewhere and a link that leads
    out: a table made by somebody else must not make this program read (and copy) other files.
    """
    path = root / name
    try:
        inside = path.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):  # a loop of links, a zero byte
        inside = False
    if not inside:
        raise CorpusError(f"cannot read {path}: a path or link that leads out of the corpus")
    return path
