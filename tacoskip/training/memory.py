"""Memory of a training step: reuse it, and split a batch for which there is not enough."""

import ctypes
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor, nn

from tacoskip.data.loading import Batch
from tacoskip.training.state import RandomState, random_state, set_random_state

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

Losses = dict[str, Tensor]


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
    """A batch that cannot be split further and does not fit in memory."""


class BatchSplitter:
    """Computes the gradient of a batch: at once, or summed over 2, 4, ... parts of its rows where
    memory is short. Batch statistics are then those of the parts.

    compute: adds the gradients of a part, given the counts of the whole batch, and returns its
    losses and output. several: other processes take part; they would not wait for parts, so a batch
    must fit at once. limit: padded frames (rows x frames) for which memory was short.
    """

    def __init__(
        self,
        model: nn.Module,
        compute: Callable[[Batch, dict[str, float]], tuple[Losses, Any]],
        device: torch.device,
        several: bool,
        log: Callable[..., None],
    ) -> None:
        self.model, self.compute, self.device = model, compute, device
        self.several, self.log = several, log
        self.limit, self.warned = float("inf"), False

    def gradients(self, batch: Batch, totals: dict[str, float]) -> tuple[Losses, Any, int]:
        """Replace the gradients by those of a batch. Return the losses, "loss" their sum, the
        output for the last part, and the number of parts. Raises OutOfMemory where it does not fit.
        """
        parts, snapshot = 1, self._snapshot()
        while parts < len(batch) and _padded_frames(rows_of(batch, 0, parts)) >= self.limit:
            parts *= 2
        while (result := self._try(batch, totals, parts)) is None:
            self._restore(snapshot)
            clips = f"{len(batch)} clips of up to {batch.mel.shape[1]} frames ({batch.ids[0]}, ...)"
            if self.several or parts >= len(batch):
                raise OutOfMemory(
                    f"no memory for {clips}, which cannot be split further: lower "
                    "data.batch_seconds, data.max_seconds or the network's widths"
                )
            parts *= 2
            if not self.warned:
                self.log(
                    f"no memory for {clips}: the batch is split into {parts} parts, as are others "
                    "as large; a smaller data.batch_seconds fits at once",
                    warning=True,
                )
            self.warned = True
        return *result, parts

    def try_batch(self, batch: Batch, totals: dict[str, float], room: int) -> None:
        """Compute the gradient of a batch and drop it, so that a lack of memory shows before the
        first step. Only `limit` changes. room: copies of the parameters that must also fit.
        """
        snapshot = self._snapshot()
        try:
            reserved = [torch.empty_like(p) for p in self.model.parameters() for _ in range(room)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                "no memory for the optimizer's averages: lower the network's widths"
            ) from error
        self.gradients(batch, totals)
        self._restore(snapshot)
        del reserved

    def _snapshot(self) -> tuple[RandomState, list[Tensor]]:
        """What a pass changes besides gradients."""
        return random_state(self.device), [value.clone() for value in self.model.buffers()]

    def _restore(self, snapshot: tuple[RandomState, list[Tensor]]) -> None:
        self.model.zero_grad()
        set_random_state(snapshot[0], self.device)
        for value, old in zip(self.model.buffers(), snapshot[1], strict=True):
            value.copy_(old)

    def _try(self, batch: Batch, totals: dict[str, float], parts: int) -> tuple[Losses, Any] | None:
        """The summed result of all parts, or None where memory was short."""
        self.model.zero_grad()
        losses: Losses = {}
        output, part = None, batch
        try:
            for number in range(min(parts, len(batch))):
                output = None  # frees the memory of the part before
                part = rows_of(batch, number, parts)
                shares, output = self.compute(part, totals)
                losses = {name: losses.get(name, 0.0) + value for name, value in shares.items()}
            return losses, output
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.limit = min(self.limit, _padded_frames(part))
        clear_device_cache(garbage_collection=True)
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


def rows_of(batch: Batch, number: int, parts: int) -> Batch:
    """Part `number` of a batch: every `parts`-th row, without needless padding."""
    if parts == 1:
        return batch
    rows = list(range(len(batch)))[number::parts]
    values: dict[str, Any] = {
        name: value[rows] if isinstance(value, Tensor) else [value[row] for row in rows]
        for name, value in vars(batch).items()
        if value is not None
    }
    frames, symbols = int(values["mel_lengths"].max()), int(values["symbol_lengths"].max())
    lengths = {"mel": frames, "linear": frames, "symbols": symbols, "durations": symbols}
    if "samples" in values:
        lengths["samples"] = int(values["sample_lengths"].max())
    values |= {name: values[name][:, :most] for name, most in lengths.items() if name in values}
    return replace(batch, **values)


def _padded_frames(batch: Batch) -> int:
    return batch.mel.shape[0] * batch.mel.shape[1]
