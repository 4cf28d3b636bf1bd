"""Forced alignment: when each token of a known text is spoken (by torchaudio).

L encoder frames, V tokens of the vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tacoskip.recognition.decode import Token, frames_needed, merge_repeats


def align_tokens(log_probs: Tensor, tokens: Sequence[int]) -> list[Token]:
    """Return the tokens, each with the frames of (L, V) on the likeliest path through the text.

    Raises ValueError where there are no tokens or the recording is too short for them.
    """
    from torchaudio.functional import forced_align

    needed = frames_needed(tokens)
    if not tokens:
        raise ValueError("expected a text with letters to align, got none")
    if len(log_probs) < needed:
        raise ValueError(
            f"the recording is too short for the text: {len(log_probs)} frames, {needed} needed"
        )
    path, scores = forced_align(log_probs.float()[None], torch.tensor([tokens], dtype=torch.int32))
    return merge_repeats(path[0].tolist(), scores[0].tolist())
