"""Transforms: the F of y = skip(x, F(x)). The contract is the docstring of `base.Transform`."""

from tacoskip.blocks.part import members
from tacoskip.blocks.transforms.base import Transform

TRANSFORMS = members(__name__, __path__, Transform)  # type: ignore[type-abstract]
