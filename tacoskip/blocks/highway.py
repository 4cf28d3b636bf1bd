"""A highway unit in bfloat16 on a CPU: both products in one, and one pass for the rest.

    y = x + s (ReLU(W x + b) - x),   s = sigmoid(V x + c),   zero at padded frames

B batch, T frames, C channels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tacoskip.blocks.products import Linear, low_linear, runs_low
from tacoskip.kernels.cpu import low


def takes(x: Tensor, linear: Linear) -> bool:
    """Whether a unit of such layers, for x (B, T, C), is one for `highway`."""
    equal = linear.in_features == linear.out_features
    return equal and runs_low(x, linear.weight) and low.takes(x)


def highway(x: Tensor, transform: Linear, gate: Linear, mask: Tensor) -> Tensor:
    """X (B, T, C), mask (B, T) -> (B, T, C), by the layers of W and V."""
    weight = torch.cat([transform.weight, gate.weight])
    bias = torch.cat([transform.bias, gate.bias])
    x = x.contiguous()
    out: Tensor = _Highway.apply(x, low_linear(x, weight, bias), mask.contiguous())
    return out


class _Highway(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, of: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(x, of, mask)
        return low.highway(x, of, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_of, d_x = low.highway_back(grads[0].contiguous(), *ctx.saved_tensors)
        return d_x, d_of, None
