"""`start=identity`: a new stack begins near the identity, by its family's own usual means.

A sum x + F(x): the last layer of F starts at zero (Goyal et al. 2017, "Accurate, large minibatch
SGD"; Zhang et al. 2019, "Fixup initialization"). A highway unit: the gate's bias starts at -4, the
lowest of Srivastava et al. (2015). LayerScale: 1e-5 (Touvron et al. 2021). Families without such
means (no path from input to output that adds) keep the start of their paper.
"""

from operator import attrgetter

import torch

from tacoskip.blocks.topologies.base import Topology
from tacoskip.blocks.transforms.base import Transform

PUBLISHED = "as published"
STARTS = ("paper", "identity")
GATE_BIAS, LAYER_SCALE = -4.0, 1e-5

# The layer of a transform whose zero makes F zero, and still has a gradient.
LAST = {
    **dict.fromkeys(("basic", "srgan", "squeeze_excite"), "norm2"),
    **dict.fromkeys(("bottleneck", "grouped", "inverted", "shuffle"), "norm3"),
    **dict.fromkeys(("preact", "wide"), "conv2"),
    **dict.fromkeys(("conformer_conv", "gated_dilated"), "out"),
}
# Skips and topologies that return x, or x times a number, where every F is zero.
ADDING = (
    *("add", "project", "zero_pad", "learned", "gated", "dynamic", "deactivable", "stochastic"),
    *("bypass", "laurel", "deepnorm"),
)
ADDING_TOPOLOGIES = ("reversible", "momentum", "attention_residual", "hyper", "mhc")


@torch.no_grad()
def start_near_identity(stack: Topology) -> str:
    """Change the first weights of a new stack; return how, in words for a table."""
    done = list[str]()
    for unit in stack.units:
        skip = unit.skip.name if unit.skip else ""
        if unit.skip and skip == "coupled":
            attrgetter("gate.bias")(unit.skip).fill_(GATE_BIAS)
            done.append(f"gate bias {GATE_BIAS:g}")
        elif unit.skip and skip == "layerscale":
            attrgetter("alpha")(unit.skip).fill_(LAYER_SCALE)
            done.append(f"layer scale {LAYER_SCALE:g}")
        elif skip in ADDING or stack.name in ADDING_TOPOLOGIES:
            done += [_zero(transform) for transform in unit.transforms]
    return ", ".join(dict.fromkeys(done)) or PUBLISHED


def _zero(transform: Transform) -> str:
    if transform.name not in LAST:
        return PUBLISHED
    for value in getattr(transform, LAST[transform.name]).parameters():
        value.zero_()
    return "last layer of F at 0"
