"""Base class of topologies: which units of a stack see which outputs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from tacoskip.blocks.part import Part
from tacoskip.blocks.skips.base import Skip
from tacoskip.blocks.transforms.base import Transform
from tacoskip.blocks.unit import BaseUnit, Branch
from tacoskip.masks import clear_padding


@dataclass(frozen=True)
class Make:
    """What a stack is made of: functions of (in, out) channels. widens: the skip does."""

    transform: Callable[[int, int], Transform]
    skip: Callable[[int, int], Skip]
    widens: bool = False

    def branches(self, channels: int, depth: int) -> list[BaseUnit]:
        """Return `depth` units of the transform alone, which a topology joins itself."""
        return [Branch(self.transform(channels, channels)) for _ in range(depth)]


class Topology(Part, ABC):
    """A stack: x (B, T, C), mask (B, T) -> (B, T, C), zero at padded frames.

    T and C are unchanged, and padded frames never reach real ones: in evaluation an item alone
    equals itself in a padded batch, in training more padding changes neither output nor gradient.
    A stack of depth 0 returns x. Constructed with channels, depth, a `Make`, and the options.

    units: `BaseUnit`s in the order of their depth, which the probes watch.
    joins, joins_reason: the only skips that it can join with, and why; empty: every one.
    growth: channels that each unit adds by default; 0: a unit keeps the width of the stack.
    start: how the first weights were brought near the identity.
    """

    joins: ClassVar[tuple[type[Skip], ...]] = ()
    joins_reason: ClassVar[str] = ""
    growth: ClassVar[int] = 0
    start: str = ""

    def __init__(self, units: Iterable[BaseUnit] = ()) -> None:
        super().__init__()
        self.units: list[BaseUnit] = nn.ModuleList(units)  # type: ignore[assignment]

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the output (B, T, C) of x (B, T, C), mask (B, T)."""

    @property
    def long_skips(self) -> list[Skip]:
        """Skips that join a kept output with one of a later unit, the outermost first."""
        return []

    @property
    def readers(self) -> list[list[nn.Module]]:
        """By stage, the modules that read all outputs before them side by side."""
        return []


class Mixing(Topology):
    """A stack whose units read a mix of the list of all outputs before them.

    h_l = mix([v_0, ..., v_(l-1)]) with v_0 = x and v_l = unit_l(h_l); y = mix([v_0, ..., v_depth]).
    """

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        outputs = [clear_padding(x, mask)]
        for layer, unit in enumerate(self.units):
            outputs.append(unit(self.mix(layer, outputs, mask), mask))
        return clear_padding(self.mix(len(self.units), outputs, mask), mask)

    @abstractmethod
    def mix(self, layer: int, outputs: list[Tensor], mask: Tensor) -> Tensor:
        """Return what unit `layer` (from 0) reads, or behind the last unit the stack's output.

        outputs: each (B, T, C); a stage of a stack may empty the list and begin another.
        """
