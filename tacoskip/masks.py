"""Masks: which frames of a padded batch are real.

B batch, T frames, C channels.
"""

import torch
from torch import Tensor


def lengths_to_mask(lengths: Tensor, max_length: int | None = None) -> Tensor:
    """Return bool (B, T), True on the first `lengths[b]` frames of each row.

    lengths: (B,) integers. max_length: T, by default the largest length.
    Raises ValueError when a length exceeds `max_length`, on a CPU: elsewhere the check would wait
    for the device.
    """
    if max_length is None:
        max_length = int(lengths.max())
    checked = lengths.device.type == "cpu" and not torch.compiler.is_compiling()
    if checked and int(lengths.max()) > max_length:
        raise ValueError(f"expected lengths <= {max_length}, got {int(lengths.max())}")
    return torch.arange(max_length, device=lengths.device) < lengths[:, None]


def subsampled(lengths: Tensor, factor: int) -> Tensor:
    """Return what is left of `lengths` (B,): T / factor, rounded up."""
    return torch.div(lengths + factor - 1, factor, rounding_mode="floor")


def clear_padding(x: Tensor, mask: Tensor) -> Tensor:
    """Return x (B, T, C) with zeros, whatever stood there, where mask (B, T) is False."""
    return torch.where(mask[:, :, None], x, 0.0)
