"""Topologies: which units see which outputs.

A topology is built with channels, depth, two builders of transforms and skips `(in, out, **place)`,
and its own options; `forward(x (B, T, C), mask (B, T)) -> (B, T, C)`, zero at padded frames.
"""

from collections.abc import Callable

from torch import nn

from tacoskip.blocks.topologies.chain import Chain
from tacoskip.blocks.topologies.dense import Dense
from tacoskip.blocks.topologies.reversible import Reversible
from tacoskip.blocks.topologies.unet import UNet

TOPOLOGIES: dict[str, Callable[..., nn.Module]] = {
    "chain": Chain,
    "dense": Dense,
    "reversible": Reversible,
    "unet": UNet,
}
# What a topology can join with; one that is not listed takes every skip.
JOINS: dict[str, tuple[tuple[str, ...], str]] = {
    "dense": (("concat",), "its units read all earlier outputs side by side"),
    "reversible": (("add",), "only a sum can be taken back to rebuild what went in"),
    "unet": (("none", "add", "concat"), "its long skips join maps of one width"),
}
