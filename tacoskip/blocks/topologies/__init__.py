"""Topologies: which units see which outputs. The contract is the docstring of `base.Topology`."""

from tacoskip.blocks.part import members
from tacoskip.blocks.topologies.base import Topology

TOPOLOGIES = members(__name__, __path__, Topology)  # type: ignore[type-abstract]
