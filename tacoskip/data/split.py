"""A fixed split: by a hash of the id, so that neither order nor later clips move anything."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

SPLITS = ("train", "validation", "test")


def rank(id: str, salt: str = "") -> int:
    """Return a number that depends on the id (and salt) alone, even over all ids."""
    return int.from_bytes(hashlib.sha256(f"{salt}{id}".encode()).digest()[:8], "big")


def default_count(n: int) -> int:
    """Return about 2 % of n: at least 8, at most 200, at most a tenth of a set that is tiny."""
    return min(200, max(8, round(0.02 * n)), max(1, n // 10) if n >= 3 else 0)


def assign_splits(
    clips: Iterable[tuple[str, str, str | None]],
    previous: Mapping[str, str],
    validation: int = 0,
    test: int = 0,
) -> dict[str, str]:
    """Give each clip its split, id to name.

    clips: (id, speaker, official split or None). previous: id to split of an earlier run, which
    stays. validation, test: wanted clips (0: the official split whole, else `default_count`).
    A clip of an official test or validation split is never trained on; those beyond a wanted
    number get no split. At least one free clip of each speaker is trained on.
    """
    official: dict[str, list[str]] = {}
    free: list[tuple[str, str]] = []
    result: dict[str, str] = {}
    for id, speaker, split in clips:
        if split is not None:
            official.setdefault(split, []).append(id)
        elif previous.get(id) in SPLITS:
            result[id] = previous[id]
        else:
            free.append((id, speaker))
    free.sort(key=lambda clip: (rank(clip[0]), clip[0]))
    n = len(free) + len(result)
    counts = Counter(result.values())
    left = Counter(speaker for _, speaker in free)
    for name, wanted in (("test", test), ("validation", validation)):
        if name in official:
            ids = sorted(official[name], key=lambda id: (rank(id), id))
            result.update(dict.fromkeys(ids[: wanted or len(ids)], name))
            continue
        missing = (wanted or default_count(n)) - counts[name]
        for id, speaker in free:
            if missing <= 0:
                break
            if id not in result and left[speaker] > 1:
                result[id] = name
                left[speaker] -= 1
                missing -= 1
    for id, _ in free:
        result.setdefault(id, "train")
    return result
