"""An entry of the table of replacements."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Replacement:
    """A plain module type and its faster equal.

    fast: a subclass of `plain` that overrides methods only; its instances have the same parameters,
    names and hooks; its docstring says what it does. is_supported: whether it serves a module on a
    device with a compute dtype, float32 or what autocast runs in.
    """

    plain: type[nn.Module]
    fast: type[nn.Module]
    is_supported: Callable[[nn.Module, torch.device, torch.dtype], bool] = lambda *_: True
