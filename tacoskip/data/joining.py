"""Training utterances that are strings of several clips of one speaker.

Short clips (single digits) teach a network nothing about what follows what; joined ones do.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacoskip.data.shards import clip_wave

if TYPE_CHECKING:
    from lhotse import MonoCut
    from lhotse.cut import Cut

LONGEST_PAUSE = 0.12  # seconds
PAUSE_LEVEL = 1e-4  # RMS of the noise in a pause: -80 dB, so that no frame is digital silence


def joined_cuts(
    cuts: Sequence["MonoCut"],
    low: int,
    high: int,
    max_seconds: float,
    seed: int,
    epoch: int,
    shuffle: bool = True,
) -> list["Cut"]:
    """Return one epoch of joined cuts: each of low..high clips of one speaker, with pauses.

    Every clip comes once; the last string of a speaker is filled up with clips that come twice.
    A string that would pass `max_seconds` ends early. The same seed and epoch give the same
    strings. Raises ValueError unless 1 <= low <= high.
    """
    if not 1 <= low <= high:
        raise ValueError(
            f"expected data.join = [low, high] with 1 <= low <= high, got [{low}, {high}]"
        )
    if high == 1:
        return list(cuts)
    rng = random.Random(f"join {seed} {epoch}")
    by_speaker: dict[str, list[MonoCut]] = {}
    for cut in cuts:
        by_speaker.setdefault(cut.supervisions[0].speaker or "", []).append(cut)
    result: list[Cut] = []
    for speaker in sorted(by_speaker):
        clips = by_speaker[speaker]
        if shuffle:
            rng.shuffle(clips)
        queue = list(clips)
        while queue:
            wanted = rng.randint(low, high)
            chosen, pauses = [queue.pop(0)], [0.0]
            while len(chosen) < wanted:
                clip = queue[0] if queue else clips[rng.randrange(len(clips))]
                pause = rng.uniform(0.0, LONGEST_PAUSE)
                length = sum(c.duration for c in chosen) + sum(pauses) + pause + clip.duration
                if length > max_seconds or (not queue and len(chosen) >= low):
                    break
                if queue:
                    queue.pop(0)
                chosen.append(clip)
                pauses.append(pause)
            result.append(_mixed(chosen, pauses, f"{epoch}-{len(result)}"))
    return result


def _mixed(clips: list["MonoCut"], pauses: list[float], id: str) -> "Cut":
    from lhotse.cut import MixedCut, MixTrack

    if len(clips) == 1:
        return clips[0]
    tracks, offset = [], 0.0
    for clip, pause in zip(clips, pauses, strict=True):
        offset += pause
        tracks.append(MixTrack(clip, offset=offset))
        offset += clip.duration
    return MixedCut(id=f"join-{id}", tracks=tracks)


def parts(cut: "Cut") -> list[tuple[float, Any]]:
    """Return the clips of a cut with the second at which each begins."""
    from lhotse.cut import MixedCut

    if isinstance(cut, MixedCut):
        return [(track.offset, track.cut) for track in cut.tracks]
    return [(0.0, cut)]


def spoken(cut: "Cut") -> str:
    """Return the text of a cut as spoken words, the clips' texts joined by a space."""
    return " ".join(part.supervisions[0].custom["normalized"] for _, part in parts(cut))


def cut_wave(cut: "Cut") -> NDArray[np.float32]:
    """Return the samples (N,) of a prepared cut, joined clips laid one after another."""
    waves = []
    for second, part in parts(cut):
        wave, rate = clip_wave(part)
        waves.append((second, wave))
    return join_waves(waves, rate, cut.id)


def join_waves(
    pieces: list[tuple[float, NDArray[np.float32]]], sample_rate: int, id: str
) -> NDArray[np.float32]:
    """Lay waves at their seconds onto faint noise that depends on `id` alone."""
    if len(pieces) == 1:
        return pieces[0][1]
    starts = [round(second * sample_rate) for second, _ in pieces]
    length = max(start + len(wave) for start, (_, wave) in zip(starts, pieces, strict=True))
    noise = np.random.default_rng(list(id.encode())).standard_normal(length, dtype=np.float32)
    result = noise * np.float32(PAUSE_LEVEL)
    for start, (_, wave) in zip(starts, pieces, strict=True):
        result[start : start + len(wave)] = wave
    return result
