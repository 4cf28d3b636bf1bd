"""A fixed split by a hash of the id: neither order nor clips that come later change it."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

from tacoskip.data.utterance import Utterance

SPLITS = ("train", "validation", "test")


def rank(id: str, salt: str = "") -> tuple[bytes, str]:
    """Return a sort key that depends on the id (and salt) alone, even over all ids."""
    return hashlib.sha256(f"{salt}{id}".encode()).digest()[:8], id


def default_count(n: int) -> int:
    """Return about 2 % of n: at least 8, at most 200, at most a tenth of a set that is tiny."""
    return min(200, max(8, round(0.02 * n)), max(1, n // 10) if n >= 3 else 0)


def assign_splits(
    clips: Iterable[Utterance], previous: Mapping[str, str], validation: int = 0, test: int = 0
) -> dict[str, str]:
    """Return the split of each clip by its id.

    previous: splits of an earlier run, which stay. validation, test: wanted clips (0: the official
    split whole, else `default_count`). A clip of an official test or validation split is never
    trained on; those beyond a wanted number get no split. At least one free clip of each speaker
    is trained on.
    """
    official: dict[str, list[str]] = {}
    groups: dict[str, list[Utterance]] = {}  # clips of one sentence
    earlier: dict[str, str] = {}
    for clip in clips:
        if clip.split is not None:
            official.setdefault(clip.split, []).append(clip.id)
            continue
        groups.setdefault(clip.sentence or clip.id, []).append(clip)
        if previous.get(clip.id) in SPLITS:
            earlier.setdefault(clip.sentence or clip.id, previous[clip.id])
    result = {clip.id: split for name, split in earlier.items() for clip in groups[name]}
    free = sorted(groups.keys() - earlier.keys(), key=rank)
    counts = Counter(result.values())
    left = Counter(clip.speaker for name in free for clip in groups[name])
    n = sum(map(len, groups.values()))
    for split, wanted in (("test", test), ("validation", validation)):
        if split in official:
            ids = sorted(official[split], key=rank)
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
    return {clip.id: "train" for name in free for clip in groups[name]} | result
