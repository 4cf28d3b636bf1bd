"""Memory of a training step: reuse it, and say what to lower where there is not enough."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from tacoskip.data.loading import Batch
from tacoskip.training.state import random_state, set_random_state

# glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8

# What torch's allocators, C++, cuBLAS and oneDNN say of memory that is not there.
NO_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    "ALLOC_FAILED",
    "could not create a primitive",
    "could not execute a primitive",
    "could not create a memory object",
)


def keep_memory() -> None:
    """Have glibc's malloc keep freed memory for the next step.

    Every step frees and allocates the same large tensors; by default each comes as fresh pages from
    the kernel. Does nothing with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
        mallopt(M_TOP_PAD, 1 << 26)
        mallopt(M_ARENA_MAX, 1)


class OutOfMemory(RuntimeError):
    """A batch that does not fit in memory."""


@contextmanager
def memory_for(batch: Batch) -> Iterator[None]:
    """Raise OutOfMemory, in one line, where there is no memory for a batch."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        frames = int(batch.mel_lengths.max())
        clips = f"{len(batch)} clips of up to {frames} frames ({batch.ids[0]}, ...)"
        raise OutOfMemory(
            f"no memory for {clips}: lower data.batch_seconds, data.max_seconds or the network's "
            "widths"
        ) from error


@contextmanager
def rehearsal(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Take back what a forward and a backward pass change: gradients, buffers, random numbers."""
    random, buffers = random_state(device), [value.clone() for value in model.buffers()]
    yield
    model.zero_grad()
    set_random_state(random, device)
    for value, old in zip(model.buffers(), buffers, strict=True):
        value.copy_(old)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)
