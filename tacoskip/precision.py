"""Where reduced precision may not go: parts of a network that stay in single precision."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Raise half precision to float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(x: Tensor) -> torch.autocast:
    """Suspend autocast on the device of x, for states that are summed over many steps."""
    return torch.autocast(x.device.type, enabled=False)
