"""Whether a network runs or is being written down."""

import torch


def is_recorded() -> bool:
    """Whether torch.jit.trace or torch.export is writing this call down.

    What it writes must hold for other inputs too, so no branch may depend on this one's values.
    """
    return torch.jit.is_tracing() or torch.compiler.is_exporting()
