"""Skips: how x meets F(x) again. The contract is the docstring of `base.Skip`."""

from tacoskip.blocks.part import members
from tacoskip.blocks.skips.base import Skip

SKIPS = members(__name__, __path__, Skip)  # type: ignore[type-abstract]
