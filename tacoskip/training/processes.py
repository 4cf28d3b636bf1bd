"""The processes of one run, started by torchrun or `accelerate launch`.

DDP averages the gradients. Decisions (to stop, to save, how much a loss weighs) are taken from the
same gathered values in every process. torch and the launcher detect a process that has ended.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs
from torch import Tensor, distributed, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d

T = TypeVar("T")

# One process, or several that each hold the whole network.
SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)

# For the processes to start, and for a step: the others wait longer only while the first evaluates.
STEP_TIMEOUT, EVALUATION_TIMEOUT = timedelta(minutes=10), timedelta(days=1)

# What gloo and NCCL say of a connection that broke.
BROKEN = ("connection", "broken pipe", "timed out", "timeout", "socket")


class ProcessLost(RuntimeError):
    """Another process of the run has ended or cannot be reached."""


def is_main_process() -> bool:
    """Whether this process shows progress, by its launcher's environment."""
    return os.environ.get("RANK", "0") == "0"


def is_single_process() -> bool:
    """Whether the run has no other process, by its launcher's environment."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1


def start_accelerator(precision: str, cpu: bool) -> Accelerator:
    """Connect the processes of the run. Raises ValueError for FSDP, DeepSpeed and the like."""
    handlers = [
        InitProcessGroupKwargs(timeout=STEP_TIMEOUT),
        # Batch statistics are the same in every process; some blocks leave parameters unused.
        DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True),
    ]
    if reset := getattr(AcceleratorState, "_reset_state", None):  # not documented
        reset(reset_partial_state=True)  # an earlier run may have had another device or precision
    accelerator = Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=handlers)
    if accelerator.distributed_type not in SUPPORTED:
        raise ValueError(
            "expected plain data parallel processes (torchrun, accelerate launch --multi_gpu), "
            f"got {accelerator.distributed_type}"
        )
    return accelerator


class Processes:
    """This process among all of its run; alone, every method returns its argument."""

    def __init__(self, device: torch.device) -> None:
        several = distributed.is_available() and distributed.is_initialized()
        self.count = distributed.get_world_size() if several else 1
        self.rank = distributed.get_rank() if several else 0
        self.main = self.rank == 0
        # accelerate numbers processors too, and torch.load knows no cpu:0.
        self.device = torch.device("cpu") if device.type == "cpu" else device
        # Values on the CPU, so that a decision does not wait for the GPU.
        self._group: Any = None
        if several:
            self._group = distributed.new_group(backend="gloo", timeout=EVALUATION_TIMEOUT)

    def gather(self, *values: float) -> Tensor:
        """The values of every process: (processes, values), double, on the CPU."""
        local = torch.tensor(values, dtype=torch.float64)
        gathered = [local.clone() for _ in range(self.count)]
        if self.count > 1:
            distributed.all_gather(gathered, local, group=self._group)
        return torch.stack(gathered)

    def gather_objects(self, value: T) -> list[T]:
        """The value of every process."""
        gathered: list[Any] = [value] * self.count
        if self.count > 1:
            distributed.all_gather_object(gathered, value, group=self._group)
        return gathered

    def broadcast(self, value: T) -> T:
        """The main process' value."""
        values = [value]
        if self.count > 1:
            distributed.broadcast_object_list(values, group=self._group)
        return values[0]

    def check_same(self, values: dict[str, Any]) -> None:
        """Raise ValueError where a process has another value than the main one, naming it."""
        first, *others = self.gather_objects(values)
        for rank, other in enumerate(others, 1):
            for name, value in first.items():
                if other[name] != value:
                    raise ValueError(
                        "expected the same settings in every process of a run, got on process "
                        f"{rank}: {name}={other[name]} ({value} on the first)"
                    )

    def synchronize_batch_norms(self, model: nn.Module) -> None:
        """Have masked batch norms use the statistics of all processes."""
        for module in model.modules():
            if isinstance(module, MaskedBatchNorm1d):
                module.sync = self.count > 1

    def shut_down(self) -> None:
        """End together with the others; the main process may still evaluate."""
        if self.count > 1:
            self.gather(0.0)
            distributed.destroy_process_group()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn the error of a connection that broke, or was never made, into one line."""
    try:
        yield
    except BaseException as error:
        if is_single_process():
            raise
        if threading.current_thread() is threading.main_thread():
            # The launcher stops all processes; the reason must be printed first.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        broken = any(word in str(error).lower() for word in BROKEN)
        if isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and broken):
            raise ProcessLost(
                "another process of this run has ended or cannot be reached; its own last line "
                "says why. Run the same command again to resume (docs/how-to/several-machines.md)"
            ) from error
        raise
