"""Forced alignment: when each word and character of a known text is said (torchaudio's).

L encoder frames, U units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tacoskip.recognition.decode import Unit, frames_needed


def forced_units(log_probs: Tensor, units: Sequence[int]) -> list[Unit]:
    """Return the units, each with the frames of (L, U) that the likeliest path gives it.

    Raises ValueError where the recording is too short for them, or there are none.
    """
    from torchaudio.functional import forced_align

    needed = frames_needed(units)
    if not units:
        raise ValueError("expected a text with letters to align, got none")
    if len(log_probs) < needed:
        raise ValueError(
            f"the recording is too short for the text: {len(log_probs)} frames, {needed} needed"
        )
    path, scores = forced_align(log_probs.float()[None], torch.tensor([units], dtype=torch.int32))
    found: list[Unit] = []
    before = 0
    for frame, (index, score) in enumerate(zip(path[0].tolist(), scores[0].tolist(), strict=True)):
        if index and index == before:
            run = found[-1]
            found[-1] = Unit(index, run.first, frame, max(run.score, score))
        elif index:
            found.append(Unit(index, frame, frame, score))
        before = index
    return found
