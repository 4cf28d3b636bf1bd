"""The contract of a stack, checked on a small example."""

import torch
from torch import Tensor, nn

LENGTHS = (7, 4)


def check_contract(stack: nn.Module, channels: int) -> None:
    """Raise ValueError, with the reason, unless `stack` keeps the contract of a topology."""
    x = torch.randn(len(LENGTHS), LENGTHS[0], channels)
    mask = torch.arange(LENGTHS[0]) < torch.tensor(LENGTHS)[:, None]
    _check_shape(stack.train()(x, mask), x)
    with torch.no_grad():
        output = stack.eval()(x, mask)
        _check_shape(output, x)
        if output[~mask].any():
            raise ValueError("expected zeros at padded frames")
        short = LENGTHS[1]
        alone = stack(x[1:, :short], mask[1:, :short])
    if not torch.allclose(output[1:, :short], alone, rtol=1e-4, atol=1e-5):
        raise ValueError("expected an item alone to equal itself in a padded batch: padding leaks")


def _check_shape(output: object, x: Tensor) -> None:
    if not isinstance(output, Tensor):
        raise ValueError(f"expected a tensor (B, T, C), got {type(output).__name__}")
    if output.shape != x.shape:
        expected, got = tuple(x.shape), tuple(output.shape)
        raise ValueError(f"expected the shape of the input, {expected}, got {got}")


@torch.no_grad()
def randomize(stack: nn.Module) -> None:
    """Move every parameter off its start, where a gate of zero would hide what is behind it."""
    for parameter in stack.parameters():
        parameter.uniform_(-0.3, 0.3)
