"""Gradients as CUDA graphs: a forward and a backward pass that the host launches as one.

A graph repeats its kernels on the same memory, so it serves batches of one shape: batches are
padded to a few shapes, and a shape is captured when it comes a second time. Off for recognizers
(CTC reads lengths on the host), several processes, fp16 and deterministic runs, and with
TACOSKIP_CUDA_GRAPH=0 in the environment.

B batch, S symbols, T mel frames.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.data.loading import Batch
from tacoskip.models.tacotron import Tacotron

FRAMES, SYMBOLS = 64, 16  # a batch is padded to multiples of them
GRAPHS = 24  # graphs kept: each holds a copy of the gradients
Result = tuple[dict[str, Tensor], Any]  # losses, and the network's output
Compute = Callable[[Batch], Result]


def padded(batch: Batch) -> Batch:
    """The batch with T and S padded to multiples of FRAMES and SYMBOLS."""
    frames, symbols = -batch.mel.shape[1] % FRAMES, -batch.symbols.shape[1] % SYMBOLS
    durations = batch.durations
    return replace(
        batch,
        durations=None if durations is None else functional.pad(durations, (0, symbols)),
        symbols=functional.pad(batch.symbols, (0, symbols)),
        mel=functional.pad(batch.mel, (0, 0, 0, frames)),
        linear=functional.pad(batch.linear, (0, 0, 0, frames)),
    )


class Capturer(Protocol):
    """Runs work now, or captures it."""

    def run(self, work: Callable[[], Result]) -> Result: ...

    def capture(self, work: Callable[[], Result]) -> tuple[Callable[[], object], Result]:
        """Return what replays the work, and where its result then is."""


class CudaStream:
    """A `Capturer` on a stream of its own, on which autograd sees passes and captures alike."""

    def __init__(self) -> None:
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def run(self, work: Callable[[], Result]) -> Result:
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = work()
        current.wait_stream(self.stream)
        return result

    def capture(self, work: Callable[[], Result]) -> tuple[Callable[[], object], Result]:
        graph = torch.cuda.CUDAGraph()
        # Threads that pin the next batches call CUDA meanwhile.
        with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
            result = work()
        return graph.replay, result


class Graph:
    """A captured pass: the batch it reads, the result and gradients it writes."""

    def __init__(
        self, batch: Batch, compute: Compute, network: nn.Module, capturer: Capturer
    ) -> None:
        changed: dict[str, Any] = {name: x.clone() for name, x in tensors(batch).items()}
        self.batch = replace(batch, **changed)
        self.parameters = list(network.parameters())
        network.zero_grad()
        self.replay, (losses, _) = capturer.capture(lambda: compute(self.batch))
        self.losses = losses
        self.gradients = [parameter.grad for parameter in self.parameters]

    def __call__(self, batch: Batch) -> Result:
        for name, value in tensors(batch).items():
            getattr(self.batch, name).copy_(value)
        self.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.losses, None


def tensors(batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch by name."""
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}


class GraphedGradients:
    """Computes gradients of batches on the GPU: by a captured graph where the shape is known.

    eager: capture and replay nothing for now; only then is the network's output returned.
    """

    def __init__(
        self, network: Tacotron, log: Callable[..., None], capturer: Capturer | None = None
    ) -> None:
        self.network, self.log = network, log
        self.capturer = capturer or CudaStream()
        self.eager = self.failed = False
        self.seen = set[Hashable]()
        self.graphs = OrderedDict[Hashable, Graph]()

    def __call__(self, batch: Batch, compute: Compute, whole: bool) -> Result:
        """Add the gradients of a batch, or, where it is `whole`, replace them."""
        batch = padded(batch)
        shapes = tuple(tuple(value.shape) for value in tensors(batch).values())
        key = shapes, self.network.reduction
        if not whole or self.eager or self.failed or not self._captured(key, batch, compute):
            self.seen.add(key)
            return self.capturer.run(lambda: compute(batch))
        self.graphs.move_to_end(key)
        return self.graphs[key](batch)

    def _captured(self, key: Hashable, batch: Batch, compute: Compute) -> bool:
        """Whether there is a graph for a key; captures one that has been seen before."""
        if key in self.graphs or key not in self.seen:
            return key in self.graphs
        if len(self.graphs) >= GRAPHS:
            self.graphs.popitem(last=False)
        try:
            self.graphs[key] = Graph(batch, compute, self.network, self.capturer)
        except RuntimeError as error:
            self.failed = True
            self.graphs.clear()
            self.network.zero_grad()
            reason = str(error).splitlines()[0]
            self.log(f"CUDA graphs are off, a step cannot be captured: {reason}", warning=True)
        return key in self.graphs


def graphed_gradients(
    network: nn.Module,
    device: torch.device,
    processes: int,
    precision: str,
    log: Callable[..., None],
) -> GraphedGradients | None:
    """Return what computes a run's gradients by graphs, or None where none can be captured."""
    graphs = None
    if (
        device.type == "cuda"
        and processes == 1
        and precision != "fp16"
        and isinstance(network, Tacotron)
        and not torch.are_deterministic_algorithms_enabled()
        and os.environ.get("TACOSKIP_CUDA_GRAPH") != "0"
    ):
        graphs = GraphedGradients(network, log)
    if device.type == "cuda":
        log(f"CUDA graphs: {'on' if graphs else 'off'}")
    return graphs
