"""Operators that torch.compile, export and fake tensors see through."""

from collections.abc import Callable
from typing import Any

import torch

Function = Callable[..., Any]


class Operator:
    """An operator `tacoskip::name` of torch.library for one device ("CPU", "CUDA").

    As `torch.library.custom_op`, which imports torch's compiler at its first call, seconds that a
    command would wait for.
    """

    def __init__(self, name: str, device: str, function: Function) -> None:
        self.name = f"tacoskip::{name}"
        torch.library.define(self.name, torch.library.infer_schema(function, mutates_args=()))
        torch.library.impl(self.name, device)(function)
        self.overload = getattr(torch.ops.tacoskip, name).default

    def __call__(self, *arguments: Any) -> Any:
        return self.overload(*arguments)

    def register_fake(self, function: Function) -> Function:
        """Give the outputs' shapes."""
        torch.library.register_fake(self.name)(function)
        return function

    def register_autograd(self, backward: Function, setup_context: Function) -> None:
        """Give the gradient."""
        torch.library.register_autograd(self.name, backward, setup_context=setup_context)


def operator(name: str, device: str = "CPU") -> Callable[[Function], Operator]:
    """Make a function of tensors an operator; it may change none of them."""
    return lambda function: Operator(name, device, function)
