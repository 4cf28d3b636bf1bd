"""First weights that do not depend on what else a network is made of, or none at all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


@contextmanager
def independent_init() -> Iterator[None]:
    """Draw what is built inside from a generator of its own, seeded by one draw from the common
    one.

    Whatever stands inside, and however large it is, the parts built after it start as they would
    have without it: two networks of one seed that differ in one part are equal in all others.
    """
    seed = int(torch.randint(1 << 62, (), device="cpu"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def start_gru(gru: nn.Module) -> None:
    """Start a GRU as Keras does, each gate apart: recurrent weights orthogonal (Saxe et al. 2014),
    input weights uniform by Glorot and Bengio (2010), biases 0.

    With PyTorch's start, CTC rests on its first plateau up to three times as long, by seed.
    """
    with independent_init():
        for name, weights in gru.named_parameters():
            for gate in weights.data.chunk(3):
                if "bias" in name:
                    nn.init.zeros_(gate)
                elif "weight_ih" in name:
                    nn.init.xavier_uniform_(gate)
                elif not gate.is_meta:
                    nn.init.orthogonal_(gate)


@contextmanager
def outline() -> Iterator[None]:
    """What is built inside has shapes, and neither memory nor weights."""
    with torch.device("meta"), _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    """Leaves out normal draws: on the meta device they import torch's compiler, a second's work."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.init.normal_:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
