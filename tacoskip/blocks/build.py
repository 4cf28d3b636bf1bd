"""A stack from the name of its family, or from names on the three axes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tacoskip.blocks.contract import check_contract, randomize
from tacoskip.blocks.external import entry_points, is_external, load_family
from tacoskip.blocks.families import BLOCKS, Family
from tacoskip.blocks.part import Part
from tacoskip.blocks.skips import SKIPS
from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.topologies import TOPOLOGIES
from tacoskip.blocks.topologies.base import Make, Topology
from tacoskip.blocks.topologies.chain import Chain
from tacoskip.blocks.transforms import TRANSFORMS
from tacoskip.messages import nearest

Axis = TypeVar("Axis", bound=Part)


class WholeStack(Topology):
    """A stack from outside that is no Topology: the probes see nothing inside it."""

    def __init__(self, stack: nn.Module):
        super().__init__()
        self.stack = stack

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.stack(x, mask)


def build_block(
    name: str, channels: int, depth: int, skip: str = "", topology: str = "", **options: object
) -> Topology:
    """Build a stack of `depth` units of the family `name`, `channels` wide.

    Args:
        name: a family of `BLOCKS`, an entry point, or `package.module:Name`.
        channels: width C of the input and the output.
        depth: number of units.
        skip: in place of the family's own.
        topology: in place of the family's own.
        options: of the transform and the topology by their names, of the skip with `skip_` before
            them (`skip_gate_bias`).

    Raises:
        ValueError: for an unknown name or option, and for parts that do not fit together.
    """
    family = find_family(name)
    if is_external(name):
        small = partial(_build, name, family, channels, min(depth, 2), skip, topology, options)
        _check_external(name, small, channels)
    return _build(name, family, channels, depth, skip, topology, options)


def find_family(name: str) -> Family:
    """Return the family of a name; ValueError for one that is unknown or cannot be loaded."""
    if name in BLOCKS:
        return BLOCKS[name]
    if is_external(name):
        return load_family(name)
    return BLOCKS[_known("block", name, {**BLOCKS, **entry_points()})]


def topology_of(name: str, topology: str = "") -> type[Topology] | None:
    """Return the topology of a family, or the one in its place; None for a whole stack."""
    family = find_family(name)
    return None if family.make else _on_axis("topology", topology or family.topology, TOPOLOGIES)


def _build(
    name: str,
    family: Family,
    channels: int,
    depth: int,
    skip: str,
    topology: str,
    options: Mapping[str, Any],
) -> Topology:
    if family.make is not None:
        if skip or topology:
            raise ValueError("it is a whole stack, without a skip or topology to replace")
        stack = family.make(channels, depth, **options)
        if not isinstance(stack, nn.Module):
            raise ValueError(f"expected a torch module, got {type(stack).__name__}")
        return stack if isinstance(stack, Topology) else WholeStack(stack)
    transform_type = _on_axis("transform", family.transform, TRANSFORMS)
    topology_type = _on_axis("topology", topology or family.topology, TOPOLOGIES)
    skip_type = _on_axis("skip", skip or family.skip, SKIPS)
    joins = topology_type.joins
    if joins and skip_type not in joins:
        if skip or not topology:
            names = " or ".join(key for key, one in SKIPS.items() if one in joins)
            raise ValueError(
                f"{_name(topology_type, TOPOLOGIES)} joins by {names}, got "
                f"'{_name(skip_type, SKIPS)}': {topology_type.joins_reason}"
            )
        skip_type = joins[0]  # the family's own skip does not fit, and the user asked for none
    options = {**_kept_options(family, skip_type, topology_type), **options}
    if topology_type is Chain and skip_type.widens:
        options.setdefault("stages", 2)
    elif topology_type is Chain and options.get("stages", 1) != 1:
        names = " and ".join(key for key, one in SKIPS.items() if one.widens)
        raise ValueError(f"stages change the width, which only {names} join")
    of_transform, of_skip, of_topology = _sorted_options(
        name, options, [(transform_type, ""), (skip_type, "skip_"), (topology_type, "")]
    )
    make = Make(partial(transform_type, **of_transform), partial(skip_type, **of_skip))
    build: Callable[..., Topology] = topology_type
    return build(channels, depth, make, **of_topology)


def _kept_options(family: Family, skip: type[Skip], topology: type[Topology]) -> dict[str, Any]:
    """Return the family's own options, without those of a skip or topology that was replaced."""
    own_skip = skip is _on_axis("skip", family.skip, SKIPS)
    own_topology = topology is _on_axis("topology", family.topology, TOPOLOGIES)
    return {
        option: value
        for option, value in family.options.items()
        if (own_skip or not option.startswith("skip_"))
        and (option != "stages" or (own_topology and own_skip))
    }


def _sorted_options(
    name: str, options: Mapping[str, object], parts: list[tuple[type[Part], str]]
) -> list[dict[str, Any]]:
    """Return the options of each part, by the names of its constructor."""
    known = [f"{prefix}{option}" for part, prefix in parts for option in part.options]
    for option in options:
        if option not in known:
            has = ", ".join(known) or "none"
            raise ValueError(f"block '{name}' has no option '{option}' (it has: {has})")
    return [
        {one: options[f"{prefix}{one}"] for one in part.options if f"{prefix}{one}" in options}
        for part, prefix in parts
    ]


def _check_external(name: str, build: Callable[[], Topology], channels: int) -> None:
    """Build a small stack on the CPU and hold it to the contract; ValueError names the block."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.enable_grad():
        torch.manual_seed(0)
        try:
            stack = build()
            randomize(stack)
            check_contract(stack, channels)
        except Exception as error:  # foreign code may fail in any way
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            reason = " ".join(str(error).split())
            raise ValueError(f"block '{name}': {kind}{reason}") from None


def _on_axis(axis: str, value: str | type[Axis], table: Mapping[str, type[Axis]]) -> type[Axis]:
    return table[_known(axis, value, table)] if isinstance(value, str) else value


def _name(part: type[Part], table: Mapping[str, type[Part]]) -> str:
    return next((name for name, one in table.items() if one is part), part.__name__)


def _known(kind: str, name: str, among: Mapping[str, object]) -> str:
    if name in among:
        return name
    hint = f"{nearest(name, among)} (known: {', '.join(sorted(among))})"
    raise ValueError(f"unknown {kind} '{name}'{hint}")
