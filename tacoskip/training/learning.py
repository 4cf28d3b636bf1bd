"""The gradient of a batch: on several processes, in parts where memory does not hold it whole.

Losses are means over frames, symbols or rows of the whole batch, wherever its rows are: what part
of it a process works on at a time weighs its share of those.

B rows of a batch, T mel frames.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d
from tacoskip.data import Batch
from tacoskip.training.processes import Processes, ProcessLost
from tacoskip.training.tasks import Task

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


class TooLong(RuntimeError):
    """A single clip for which there is no memory."""


@dataclass
class Learnt:
    """What a batch taught: its losses (`loss` their sum) and mel frames over all processes, the
    network's last output on this one, in how many parts it was taken.
    """

    losses: dict[str, float]
    frames: int
    output: Any
    parts: int


@dataclass
class Before:
    """What a pass changes besides gradients."""

    random: Tensor
    random_cuda: Tensor | None
    buffers: list[Tensor]


class Learning:
    """Fills the gradients of `model`, the network as it was wrapped for training.

    limit: padded frames (B x T) of a pass that this process had no memory for.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        optimizer: AcceleratedOptimizer,
        accelerator: Accelerator,
        processes: Processes,
        tell: Callable[[str, bool], None],
    ) -> None:
        self.task, self.model, self.optimizer = task, model, optimizer
        self.accelerator, self.processes, self.tell = accelerator, processes, tell
        self.limit = float("inf")
        self._told = False
        if processes.count > 1:
            for module in model.modules():
                if isinstance(module, MaskedBatchNorm1d):
                    module.sync = True

    def gradients(self, batch: Batch, stand_in: bool, step: int) -> Learnt:
        """Replace the gradients by those of the processes' batches together, before clipping.

        stand_in: this process has no row of the batch, `batch` counts for nothing. A batch without
        room in memory is taken again in two parts, four, ... Raises TooLong where one utterance a
        process is too much.
        """
        own = {} if stand_in else self.task.counts(batch)
        names = list(own or self.task.counts(batch))
        said = self.processes.gather(
            *(own.get(name, 0.0) for name in names),
            0.0 if stand_in else float(batch.mel_lengths.sum()),
            len(batch),
            self._parts(batch),
        )
        *counts, frames = said[:, :-2].sum(0).tolist()
        rows, parts = (int(value) for value in said[:, -2:].amax(0))
        whole, before = dict(zip(names, counts, strict=True)), self._before()
        while (taken := self._passes(batch, stand_in, step, parts, whole)) is None:
            self._back(before)
            self._make_room()
            if parts >= rows:
                raise TooLong(self._too_long(batch))
            parts *= 2
            self._tell_once(batch, parts)
        losses, output = taken
        self.processes.sum_gradients(self.model)
        return Learnt(losses, int(frames), output, parts)

    def try_longest(self, batch: Batch, stand_in: bool, step: int) -> None:
        """Take the longest batch without learning from it, so that what memory cannot hold is known
        before the first step. Nothing is changed but `limit`.
        """
        before = self._before()
        # Room for the optimizer's two averages, which come with the first step.
        weights = [] if self.optimizer.state else list(self.model.parameters())
        try:
            room = [torch.empty_like(weight) for weight in weights for _ in range(2)]
        except (RuntimeError, MemoryError) as error:
            if not is_no_memory(error):
                raise
            raise TooLong(
                "no memory for a single clip beside the optimizer's averages: lower the network's "
                "widths"
            ) from error
        self.task.begin_step(step)
        if self.processes.count > 1:  # what sums a pass makes, see Processes
            one = _rows(batch, 0, len(batch))
            if self._passes(one, stand_in, step, 1, self.task.counts(one)) is None:
                raise TooLong(self._too_long(batch))
            self._back(before)
        self.gradients(batch, stand_in, step)
        self._back(before)
        del room

    def _passes(
        self, batch: Batch, stand_in: bool, step: int, parts: int, whole: dict[str, float]
    ) -> tuple[dict[str, float], Any] | None:
        """Add the gradients of all parts up; None where memory was short, on whichever process."""
        self.optimizer.zero_grad()
        sums: dict[str, float] = {}
        output: Any = None
        part, left = batch, parts
        try:
            for place in range(parts):
                left, output = parts - place - 1, None
                part, counted = _rows(batch, place, parts), place < len(batch) and not stand_in
                self.processes.begin_pass(counted)
                output, losses = self._pass(part, counted, step, whole)
                self.processes.end_pass()
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value
            short = False
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, ProcessLost) or not is_no_memory(error):
                raise
            short = True
        if short:
            self.optimizer.zero_grad()
            self._make_room()
            self.limit = min(self.limit, _size(part))
            if not self.processes.fall_silent(left):
                raise TooLong(self._too_long(part))
        names = [*self.task.counts(batch), "loss"]
        said = self.processes.gather(float(short), *(sums.get(name, 0.0) for name in names))
        short_somewhere, *values = said.sum(0).tolist()
        if short_somewhere:
            return None
        found = dict(zip(names, values, strict=True))
        return {name: found[name] for name in sums}, output

    def _pass(
        self, part: Batch, counted: bool, step: int, whole: dict[str, float]
    ) -> tuple[Any, dict[str, float]]:
        """Forward and back; returns the output and the part's share of each loss."""
        weights = self.task.counts(part) if counted else {}
        part = self.task.standardize(part.to(self.accelerator.device))
        self.model.train()
        with self.accelerator.autocast():
            output = self.task.forward(self.model, part)
        losses = {
            name: value * (weights.get(name, 0.0) / whole[name])
            for name, value in self.task.losses(output, part, step).items()
        }
        loss = torch.stack(list(losses.values())).sum()
        self.accelerator.backward(loss)
        names = [*losses, "loss"]
        values = torch.stack([*losses.values(), loss]).detach().tolist()
        return output, dict(zip(names, values, strict=True))

    def _parts(self, batch: Batch) -> int:
        """In how many parts a batch is known to fit: a power of two."""
        parts = 1
        while parts < len(batch) and _size(_rows(batch, 0, parts)) >= self.limit:
            parts *= 2
        return parts

    def _before(self) -> Before:
        cuda = self.accelerator.device.type == "cuda"
        return Before(
            torch.get_rng_state(),
            torch.cuda.get_rng_state(self.accelerator.device) if cuda else None,
            [value.clone() for value in self.model.buffers()],
        )

    def _back(self, before: Before) -> None:
        """Undo a pass."""
        self.optimizer.zero_grad()
        torch.set_rng_state(before.random)
        if before.random_cuda is not None:
            torch.cuda.set_rng_state(before.random_cuda, self.accelerator.device)
        for value, old in zip(self.model.buffers(), before.buffers, strict=True):
            value.copy_(old)

    def _make_room(self) -> None:
        gc.collect()
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()

    def _tell_once(self, batch: Batch, parts: int) -> None:
        if not self._told:
            self._told = True
            self.tell(
                f"no memory for a batch of {len(batch)} clips of up to {batch.mel.shape[1]} frames "
                f"({batch.ids[0]}, ...): it is taken in {parts} parts, as are others as large; a "
                "smaller data.batch_seconds fits at once",
                True,
            )

    def _too_long(self, batch: Batch) -> str:
        return (
            f"no memory for a single clip of {batch.mel.shape[1]} frames ({batch.ids[0]}): lower "
            "data.max_seconds, or the network's widths"
        )


def is_no_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def _rows(batch: Batch, place: int, parts: int) -> Batch:
    """One of the parts of a batch: every `parts`-th row from `place` on, without needless padding;
    the first row alone where it has none.
    """
    if parts == 1:
        return batch
    rows = list(range(len(batch)))[place::parts] or [0]
    frames, symbols = int(batch.mel_lengths[rows].max()), int(batch.symbol_lengths[rows].max())
    cut = {field.name: getattr(batch, field.name) for field in fields(batch)}
    cut = {
        name: value[rows] if isinstance(value, Tensor) else [value[row] for row in rows]
        for name, value in cut.items()
    }
    cut |= {"mel": cut["mel"][:, :frames], "linear": cut["linear"][:, :frames]}
    return replace(batch, **(cut | {"symbols": cut["symbols"][:, :symbols]}))


def _size(batch: Batch) -> int:
    """Padded frames."""
    return batch.mel.shape[0] * batch.mel.shape[1]
