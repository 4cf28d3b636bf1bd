"""Topologies: which units see which outputs. The contract is the docstring of `base.Topology`."""

from tacoskip.blocks.topologies.base import Topology
from tacoskip.blocks.topologies.chain import Chain
from tacoskip.blocks.topologies.dense import Dense
from tacoskip.blocks.topologies.reversible import Reversible
from tacoskip.blocks.topologies.unet import UNet

TOPOLOGIES: dict[str, type[Topology]] = {
    "chain": Chain,
    "dense": Dense,
    "reversible": Reversible,
    "unet": UNet,
}
