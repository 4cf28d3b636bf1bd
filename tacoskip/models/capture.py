"""Many small kernels handed over at once, or made into few.

A GPU may run the attention loop's kernels, several thousand in a training step, faster than Python
hands them over. Captured once, they are handed over together (`torch.cuda.CUDAGraph`), on copies of
the inputs that stay where they are. What stands around the loop is many small kernels in batch
norms and in the stacks, of which torch.compile makes few.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tacoskip.blocks.layers import MaskedBatchNorm1d, normalise
from tacoskip.models.cbhg import CBHG

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


def fuse(model: nn.Module, backend: str | Callable[..., Any] = "inductor") -> str:
    """Have torch.compile make the kernels of training in batch norms, with what follows them, and
    in stacks that have no convolutions, which would be compiled anew for every length.

    Returns why nothing is compiled, or "". What fails to compile later runs as it is, and is
    warned of.
    """
    one = torch.ones(8, device=next(model.parameters()).device)
    try:
        with torch._dynamo.config.patch(suppress_errors=False):
            torch.compile(_try, dynamic=True, backend=backend)(one)
    except Exception as error:  # a compiler that is not there, and whatever else torch raises
        cause = getattr(error, "inner_exception", error)
        return str(cause).strip().partition("\n")[0] or type(cause).__name__
    torch._dynamo.config.suppress_errors = True
    norm = torch.compile(normalise, dynamic=True, backend=backend)
    stack = torch.compile(_run, dynamic=True, backend=backend)
    for module in model.modules():
        if isinstance(module, MaskedBatchNorm1d):
            module.fused = norm
        elif isinstance(module, CBHG) and not _convolves(module.stack):
            module.fused = stack
    return ""


def _convolves(stack: nn.Module) -> bool:
    return any(isinstance(layer, nn.Conv1d) for layer in stack.modules())


def _try(x: Tensor) -> Tensor:
    return torch.sigmoid(x) + 1


def _run(stack: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    found: Tensor = stack(x, mask)
    return found
