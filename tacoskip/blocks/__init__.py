"""Skip connections that can stand where CBHG's highway layers stand.

Three axes: a transform F, a skip that joins x and F(x), a topology that says which units see which
outputs. `BLOCKS` names the points of this space that papers have. The contract of a stack is the
docstring of `topologies.base.Topology`; those of the axes stand on `Transform` and `Skip`.
"""

from tacoskip.blocks.build import build_block, find_family
from tacoskip.blocks.contract import check_contract
from tacoskip.blocks.external import all_families
from tacoskip.blocks.families import BLOCKS, Family
from tacoskip.blocks.gates import prune, sparsity
from tacoskip.blocks.part import for_export
from tacoskip.blocks.skips import SKIPS
from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.topologies import TOPOLOGIES
from tacoskip.blocks.topologies.base import Topology
from tacoskip.blocks.transforms import TRANSFORMS
from tacoskip.blocks.transforms.base import Transform
from tacoskip.blocks.unit import Unit

__all__ = [
    "BLOCKS",
    "SKIPS",
    "TOPOLOGIES",
    "TRANSFORMS",
    "Family",
    "Skip",
    "Topology",
    "Transform",
    "Unit",
    "all_families",
    "build_block",
    "check_contract",
    "find_family",
    "for_export",
    "prune",
    "sparsity",
]
