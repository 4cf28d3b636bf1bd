"""From CTC posteriors to tokens: the likeliest of each frame, or those of a known text.

L encoder frames, V tokens of the vocabulary; token 0 is the blank.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Token:
    """A recognized token: its index, its first and last encoder frame, its log probability."""

    index: int
    first: int
    last: int
    score: float


def frames_needed(tokens: Sequence[int]) -> int:
    """Encoder frames that CTC needs: one for each token, one more between two equal ones."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))


def merge_repeats(path: Sequence[int], scores: Sequence[float]) -> list[Token]:
    """Return the tokens of a path of one index a frame, without blanks."""
    tokens: list[Token] = []
    previous = 0
    for frame, (index, score) in enumerate(zip(path, scores, strict=True)):
        if index and index == previous:
            tokens[-1] = replace(tokens[-1], last=frame, score=max(tokens[-1].score, score))
        elif index:
            tokens.append(Token(index, frame, frame, score))
        previous = index
    return tokens


def greedy(log_probs: Tensor) -> list[Token]:
    """Return the tokens of the likeliest path through (L, V)."""
    scores, best = log_probs.max(1)
    return merge_repeats(best.tolist(), scores.tolist())


def greedy_batch(log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
    """Return the greedy tokens of each utterance of log_probs (B, L, V), lengths (B,)."""
    rows = zip(log_probs.argmax(2).cpu(), lengths.tolist(), strict=True)
    merged = [torch.unique_consecutive(row[:length]) for row, length in rows]
    return [tokens[tokens > 0].tolist() for tokens in merged]


def align_tokens(log_probs: Tensor, tokens: Sequence[int]) -> list[Token]:
    """Return known tokens, each with its frames on the likeliest path through (L, V).

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
