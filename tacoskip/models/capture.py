"""A loop of many small kernels as one CUDA graph a shape.

A GPU may run the attention loop's kernels, several thousand in a training step, faster than Python
hands them over. Captured once, they are handed over together (`torch.cuda.CUDAGraph`), on copies of
the inputs that stay where they are.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

Tensors = Sequence[Tensor | None]
Function = Callable[..., tuple[Tensor | None, ...]]


class Graph(Protocol):
    """What has recorded one call and does it again, on the same memory."""

    def replay(self) -> None: ...


Recorder = Callable[[Callable[[], Tensors]], tuple[Graph, Tensors]]


class Plain:
    """Calls a function as it is. multiple: of what its caller makes lengths."""

    multiple = 1

    def __call__(
        self, function: Function, tensors: Tensors, *flags: Any
    ) -> tuple[Tensor | None, ...]:
        return function(*tensors, *flags)


class Captured(Plain):
    """Calls a function of tensors through a graph of its own for every shape that comes again.

    The function must do the same for all inputs of one shape, and ask the device for nothing.
    most: graphs at once, each of which keeps its inputs and outputs.
    """

    multiple = 16

    def __init__(self, record: Recorder | None = None, most: int = 16):
        self.record = record or CudaRecorder()
        self.most = most
        self.seen: Counter[Any] = Counter()
        self.kept: dict[Any, tuple[Tensors, Graph, Tensors]] = {}

    def __call__(
        self, function: Function, tensors: Tensors, *flags: Any
    ) -> tuple[Tensor | None, ...]:
        shapes = tuple(None if x is None else (x.shape, x.dtype, x.device) for x in tensors)
        key = function, shapes, flags
        self.seen[key] += 1
        if key not in self.kept:
            if self.seen[key] < 2 or len(self.kept) >= self.most:
                return function(*tensors, *flags)
            own: Tensors = [None if x is None else x.detach().clone() for x in tensors]
            self.kept[key] = own, *self.record(lambda: function(*own, *flags))
        own, graph, found = self.kept[key]
        for mine, given in zip(own, tensors, strict=True):
            if mine is not None and given is not None:
                mine.copy_(given)
        graph.replay()
        # The next replay of any graph writes over what this one found.
        return tuple(None if x is None else x.clone() for x in found)


class CudaRecorder:
    """Records calls as CUDA graphs that share one pool of memory."""

    def __init__(self) -> None:
        self.pool: Any = None

    def __call__(self, call: Callable[[], Tensors]) -> tuple[Graph, Tensors]:
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        # Libraries that set themselves up on first use must have done so on a stream like the
        # graph's.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            found = call()
        return graph, found
