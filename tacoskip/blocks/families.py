"""Families: the points of transform x skip x topology that papers have, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from tacoskip.blocks.part import Part
from tacoskip.blocks.skips import SKIPS
from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.topologies import TOPOLOGIES
from tacoskip.blocks.topologies.base import Topology
from tacoskip.blocks.transforms import TRANSFORMS
from tacoskip.blocks.transforms.base import Transform
from tacoskip.messages import known

AXES: dict[str, Mapping[str, type[Any]]] = {
    "transform": TRANSFORMS,
    "skip": SKIPS,
    "topology": TOPOLOGIES,
}
PREFIXES = {"transform": "", "skip": "skip_", "topology": ""}  # of the options of each axis


@dataclass(frozen=True)
class Family:
    """A point of the three axes: on each a name, or a class of one's own.

    options: of the transform and the topology by their names, of the skip with `skip_` before them.
    identity: a new stack returns its input.
    formula, source: empty: those of the parts.
    make: called with (channels, depth, **options), returns a whole stack in place of the axes; it
        keeps the contract of `tacoskip.blocks.topologies.base.Topology`.
    """

    transform: str | type[Transform] = ""
    skip: str | type[Skip] = ""
    topology: str | type[Topology] = "chain"
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: bool = False
    formula: str = ""
    source: str = ""
    make: Callable[..., nn.Module] | None = None

    def part(self, axis: str, instead: str = "") -> type[Any]:
        """Return the class on an axis, or the one named `instead`; ValueError if unknown."""
        value = instead or getattr(self, axis)
        return AXES[axis][known(axis, value, AXES[axis])] if isinstance(value, str) else value

    def parts(self) -> dict[str, type[Part]]:
        """Return the class on each axis; none of a whole stack."""
        return {} if self.make else {axis: self.part(axis) for axis in AXES}

    def described(self) -> tuple[str, str]:
        """Return formula and source: the family's own, or those of its parts."""
        parts = self.parts()
        if parts and self.part("topology").joins:
            del parts["skip"]  # the topology's formula holds the join
        own = [part.described() for part in reversed(parts.values())]
        formulas, sources = ([one[i] for one in own if one[i]] for i in (0, 1))
        joined = "; ".join(formulas), "; ".join(dict.fromkeys(sources))
        return self.formula or joined[0], self.source or joined[1]

    def defaults(self) -> dict[str, Any]:
        """Return what `block_options` may set, with the values that hold unless it does."""
        options: dict[str, Any] = {}
        for axis, part in self.parts().items():
            options |= {f"{PREFIXES[axis]}{one}": value for one, value in part.defaults().items()}
        return {**options, **self.options}


BLOCKS: dict[str, Family] = {
    "plain": Family("basic", "none"),
    "residual": Family("basic", "add"),
    "highway": Family("linear", "coupled"),
    "resnet": Family("basic", "project"),
    "zero_pad": Family("basic", "zero_pad"),
    "preact": Family("preact", "add"),
    "bottleneck": Family("bottleneck", "add"),
    "wide": Family("wide", "add"),
    "resnext": Family("grouped", "add"),
    "inverted": Family("inverted", "add"),
    "shuffle": Family("shuffle", "add"),
    "srgan": Family("srgan", "add"),
    "nonlocal": Family("nonlocal", "add", identity=True),
    "res2net": Family("res2net", "add"),
    "gated_dilated": Family("gated_dilated", "add"),
    "dense": Family("dense", "concat", "dense"),
    "densenet": Family("dense", "concat", "dense", {"stages": 2}),
    "reversible": Family("basic", "add", "reversible"),
    "momentum": Family("preact", "add", "momentum"),
    "wavenet": Family("gated_dilated", "none", "wavenet"),
    "denseformer": Family("preact", "add", "denseformer"),
    "attention_residual": Family("preact", "none", "attention_residual"),
    "hyper": Family("preact", "none", "hyper"),
    "mhc": Family("preact", "none", "mhc"),
    "fractal": Family("basic", "none", "fractal"),
    "unet": Family("basic", "concat", "unet"),
    "concat": Family("basic", "concat"),
    "learned": Family("basic", "learned"),
    "rezero": Family("preact", "rezero", identity=True),
    "layerscale": Family("preact", "layerscale"),
    "bypass": Family("preact", "bypass"),
    "laurel": Family("preact", "laurel"),
    "deepnorm": Family("preact", "deepnorm"),
    "gated": Family("basic", "gated"),
    "dynamic": Family("basic", "dynamic"),
    "deactivable": Family("basic", "deactivable"),
    "stochastic": Family("basic", "stochastic"),
    "convnext": Family("convnext", "add"),
    "conformer_conv": Family("conformer_conv", "add"),
    "squeeze_excite": Family("squeeze_excite", "add"),
}
