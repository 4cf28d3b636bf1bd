"""A stack from the name of its family, or from names on the three axes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tacoskip.blocks.contract import check_contract, randomize
from tacoskip.blocks.external import entry_points, is_external, load_family
from tacoskip.blocks.families import BLOCKS, PREFIXES, Family
from tacoskip.blocks.start import PUBLISHED, STARTS, start_near_identity
from tacoskip.blocks.topologies.base import Make, Topology
from tacoskip.messages import known


class WholeStack(Topology):
    """A stack from outside that is no Topology: the probes see nothing inside it."""

    def __init__(self, stack: nn.Module):
        super().__init__()
        self.stack = stack

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.stack(x, mask)


def build_block(
    name: str,
    channels: int,
    depth: int,
    skip: str = "",
    topology: str = "",
    start: str = "paper",
    **options: object,
) -> Topology:
    """Build a stack of `depth` units of the family `name`, `channels` wide.

    Args:
        name: a family of `BLOCKS`, an entry point, or `package.module:Name`.
        channels: width C of the input and the output.
        depth: number of units.
        skip: in place of the family's own.
        topology: in place of the family's own.
        start: as published, or `identity`: near it, see `tacoskip.blocks.start`.
        options: of the transform and the topology by their names, of the skip with `skip_` before
            them (`skip_gate_bias`).

    Raises:
        ValueError: for an unknown name or option, and for parts that do not fit together.
    """
    family = find_family(name)
    known("start", start, STARTS)

    def build(depth: int) -> Topology:
        if family.make is None:
            return _compose(name, family, channels, depth, (skip, topology), options)
        if skip or topology:
            raise ValueError("it is a whole stack, without a skip or topology to replace")
        stack = family.make(channels, depth, **options)
        if not isinstance(stack, nn.Module):
            raise ValueError(f"expected a torch module, got {type(stack).__name__}")
        return stack if isinstance(stack, Topology) else WholeStack(stack)

    if is_external(name):
        _check_external(name, partial(build, min(depth, 2)), channels)
    stack = build(depth)
    stack.start = start_near_identity(stack) if start == "identity" else PUBLISHED
    return stack


def find_family(name: str) -> Family:
    """Return the family of a name; ValueError for one that is unknown or cannot be loaded."""
    if is_external(name):
        return load_family(name)
    return BLOCKS[known("block", name, sorted([*BLOCKS, *entry_points()]))]


def topology_of(name: str, topology: str = "") -> type[Topology] | None:
    """Return the topology of a family, or the one in its place; None for a whole stack."""
    family = find_family(name)
    return None if family.make else family.part("topology", topology)


def _compose(
    name: str,
    family: Family,
    channels: int,
    depth: int,
    instead: tuple[str, str],
    options: Mapping[str, object],
) -> Topology:
    skip, topology = instead
    chosen: dict[str, Any] = {
        "transform": family.part("transform"),
        "skip": family.part("skip", skip),
        "topology": family.part("topology", topology),
    }
    chosen["skip"] = _fitting_skip(chosen["skip"], chosen["topology"], bool(skip or not topology))
    known_options: list[str] = []
    parts: dict[str, Callable[..., Any]] = {}
    for axis, part in chosen.items():
        names = {f"{PREFIXES[axis]}{one}": one for one in part.defaults()}
        # A part that was replaced leaves its options in the family behind.
        given = {**(family.options if part is family.part(axis) else {}), **options}
        own = {one: given[key] for key, one in names.items() if key in given}
        parts[axis] = partial(part, **own)
        known_options += names
    for option in options:
        if option not in known_options:
            has = ", ".join(known_options) or "none"
            raise ValueError(f"block '{name}' has no option '{option}' (it has: {has})")
    make = Make(parts["transform"], parts["skip"], chosen["skip"].widens)
    stack: Topology = parts["topology"](channels, depth, make)
    for layer, unit in enumerate(stack.units, 1):
        for one in (*unit.transforms, *([unit.skip] if unit.skip else [])):
            one.set_position(layer, depth)
    return stack


def _fitting_skip(skip: type[Any], topology: type[Any], is_asked_for: bool) -> type[Any]:
    """Return the skip, or the topology's own where it does not fit and was not asked for."""
    if not topology.joins or skip in topology.joins:
        return skip
    if is_asked_for:
        names = " or ".join(one.name for one in topology.joins)
        got = skip.name or skip.__name__
        raise ValueError(f"{topology.name} joins by {names}, got '{got}': {topology.joins_reason}")
    return topology.joins[0]


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
