"""Training utterances that are strings of several clips of one speaker.

Short clips (single digits) teach a network nothing about what follows what; joined ones do.
"""

import random
from collections.abc import Sequence

from tacoskip.data.clip import Clip, JoinedClips

LONGEST_PAUSE = 0.12  # seconds


def joined_clips(
    clips: Sequence[Clip], low: int, high: int, max_seconds: float, seed: int, epoch: int
) -> list[Clip | JoinedClips]:
    """Return one epoch of strings, each of low..high clips of one speaker, with pauses.

    Every clip comes once; the last string of a speaker is filled up with clips that come twice.
    A string that would pass `max_seconds` ends early. The same seed and epoch give the same
    strings. Raises ValueError unless 1 <= low <= high.
    """
    if not 1 <= low <= high:
        raise ValueError(
            f"expected data.join = [low, high] with 1 <= low <= high, got [{low}, {high}]"
        )
    if high == 1:
        return list(clips)
    rng = random.Random(f"join {seed} {epoch}")
    by_speaker: dict[str, list[Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    result: list[Clip | JoinedClips] = []
    for speaker in sorted(by_speaker):
        same_speaker = by_speaker[speaker]
        rng.shuffle(same_speaker)
        queue = list(same_speaker)
        while queue:
            wanted = rng.randint(low, high)
            chosen, pauses = [queue.pop(0)], [0.0]
            while len(chosen) < wanted:
                clip = queue[0] if queue else same_speaker[rng.randrange(len(same_speaker))]
                pause = rng.uniform(0.0, LONGEST_PAUSE)
                length = sum(c.duration for c in chosen) + sum(pauses) + pause + clip.duration
                if length > max_seconds or (not queue and len(chosen) >= low):
                    break
                if queue:
                    queue.pop(0)
                chosen.append(clip)
                pauses.append(pause)
            result.append(_join(chosen, pauses, f"join-{epoch}-{len(result)}"))
    return result


def _join(clips: list[Clip], pauses: list[float], id: str) -> Clip | JoinedClips:
    if len(clips) == 1:
        return clips[0]
    parts, start = list[tuple[float, Clip]](), 0.0
    for clip, pause in zip(clips, pauses, strict=True):
        start += pause
        parts.append((start, clip))
        start += clip.duration
    return JoinedClips(id, tuple(parts))
