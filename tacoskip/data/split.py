"""A fixed split by a hash of the id: neither order nor clips that come later change it."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitClip:
    """What the split of a clip depends on.

    official: the corpus' own split, or None. sentence: clips of one sentence are in the same split.
    """

    id: str
    speaker: str
    official: str | None = None
    sentence: str = ""


def rank(id: str, salt: str = "") -> int:
    """Return a number that depends on the id (and salt) alone, even over all ids."""
    return int.from_bytes(hashlib.sha256(f"{salt}{id}".encode()).digest()[:8], "big")


def default_count(n: int) -> int:
    """Return about 2 % of n: at least 8, at most 200, at most a tenth of a set that is tiny."""
    return min(200, max(8, round(0.02 * n)), max(1, n // 10) if n >= 3 else 0)


def assign_splits(
    clips: Iterable[SplitClip], previous: Mapping[str, str], validation: int = 0, test: int = 0
) -> dict[str, str]:
    """Return the split of each clip by its id.

    previous: splits of an earlier run, which stay. validation, test: wanted clips (0: the official
    split whole, else `default_count`). A clip of an official test or validation split is never
    trained on; those beyond a wanted number get no split. At least one free clip of each speaker
    is trained on.
    """
    official: dict[str, list[str]] = {}
    groups: dict[str, list[SplitClip]] = {}
    result: dict[str, str] = {}
    earlier: dict[str, str] = {}
    for clip in clips:
        if clip.official is not None:
            official.setdefault(clip.official, []).append(clip.id)
            continue
        groups.setdefault(clip.sentence or clip.id, []).append(clip)
        if previous.get(clip.id) in SPLITS:
            earlier.setdefault(clip.sentence or clip.id, previous[clip.id])
    for name in earlier:
        result.update({clip.id: earlier[name] for clip in groups[name]})
    free = sorted((name for name in groups if name not in earlier), key=lambda n: (rank(n), n))
    counts = Counter(result.values())
    left = Counter(clip.speaker for name in free for clip in groups[name])
    n = sum(map(len, groups.values()))
    for split, wanted in (("test", test), ("validation", validation)):
        if split in official:
            ids = sorted(official[split], key=lambda id: (rank(id), id))
            result.update(dict.fromkeys(ids[: wanted or len(ids)], split))
            continue
        missing = (wanted or default_count(n)) - counts[split]
        for name in free:
            if missing <= 0:
                break
            speakers = Counter(clip.speaker for clip in groups[name])
            if groups[name][0].id not in result and all(left[s] > speakers[s] for s in speakers):
                result.update({clip.id: split for clip in groups[name]})
                left -= speakers
                missing -= len(groups[name])
    for name in free:
        for clip in groups[name]:
            result.setdefault(clip.id, "train")
    return result
