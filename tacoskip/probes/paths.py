"""How long the paths are that gradients take through a stack.

Veit, Wilber and Belongie (2016, "Residual networks behave like ensembles of relatively shallow
networks", section 4.3). A chain of n units has n over k paths through k transforms. For each length
k, sets of k units are drawn; the gradient goes back through the transform alone in these, past it
in the others. Magnitudes are averaged over sets and weighted by the number of paths. Of a unit
y = join(x, F(x)), what comes through F is one vector-Jacobian product, the rest is the other way: a
gate's own gradient and its factor on x count as the skip. What follows the join (a ReLU) belongs to
both.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from tacoskip.blocks import Topology
from tacoskip.blocks.unit import BaseUnit
from tacoskip.probes.lesions import spread
from tacoskip.probes.stacks import hooked, stacks

# Path lengths that are measured, spread evenly; between them the logarithm is interpolated.
LENGTHS = 17
# Passes back through a unit, for all paths of a place together, and items of the batch for them.
PASSES, ITEMS = 2048, 4
# Paths of one length, where there are more.
PATHS = 16


@dataclass(frozen=True)
class PathLengths:
    """The paths of a chain of n units, by their length 0..n.

    magnitude: mean norm of the gradient that comes back along one path (at the stack's output it is
    1). share: of each length in the sum over all paths. mean: the mean length under these shares.
    """

    magnitude: list[float]
    share: list[float]
    mean: float


def path_lengths(
    model: nn.Module, loss: Callable[[], Tensor]
) -> tuple[dict[str, PathLengths], dict[str, str]]:
    """Return the path lengths by place, and the reason by place that has none.

    Args:
        model: the trained network, in evaluation mode.
        loss: computes the loss of one batch.
    """
    left_out: dict[str, str] = {}
    chains: dict[str, Topology] = {}
    for place, stack in stacks(model).items():
        if not stack.sequential:
            kind = type(stack).__name__.lower()
            left_out[place] = f"{kind} has no chain of units to go through or past"
        elif not all(unit.skip and unit.skip.has_shortcut for unit in stack.units):
            left_out[place] = "without skips there is one path, through every unit"
        else:
            chains[place] = stack
    inputs: dict[str, list[tuple[BaseUnit, Tensor, Tensor]]] = {place: [] for place in chains}
    ends: dict[str, Tensor] = {}

    def see(place: str, unit: BaseUnit, given: tuple[Tensor, Tensor], y: Tensor) -> None:
        inputs[place].append((unit, given[0].detach(), given[1]))
        ends[place] = y

    hooks = (
        unit.register_forward_hook(partial(see, place))
        for place, chain in chains.items()
        for unit in chain.units
    )
    if not chains:
        return {}, left_out
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False), hooked(hooks):
        value = loss()  # cuDNN has no backward of a recurrent layer in evaluation mode
    gradients = torch.autograd.grad(value, [ends[place] for place in chains])
    found: dict[str, PathLengths] = {}
    for place, gradient in zip(chains, gradients, strict=True):
        ways = [_TwoWays(unit, x[:ITEMS], mask[:ITEMS]) for unit, x, mask in inputs[place]]
        found[place] = _over_paths(ways, gradient[:ITEMS])
    return found, left_out


class _TwoWays:
    """One unit at one input x (B, T, C): back through its transform, or past it."""

    def __init__(self, unit: BaseUnit, x: Tensor, mask: Tensor) -> None:
        self.h: Tensor | None = None
        self.x = x.requires_grad_()
        hook = unit.transforms[0].register_forward_hook(self._keep)
        with torch.enable_grad(), hooked([hook]):
            self.y = unit(self.x, mask)

    def _keep(self, _: nn.Module, inputs: object, h: Tensor) -> None:
        self.h = h

    def through(self, gradient: Tensor) -> Tensor:
        if self.h is None:  # a closed gate: the transform did not run
            return torch.zeros_like(self.x)
        (of_h,) = torch.autograd.grad(self.y, self.h, gradient, retain_graph=True)
        (of_x,) = torch.autograd.grad(self.h, self.x, of_h, retain_graph=True)
        return of_x

    def past(self, gradient: Tensor) -> Tensor:
        (of_x,) = torch.autograd.grad(self.y, self.x, gradient, retain_graph=True)
        return of_x - self.through(gradient)


def _over_paths(ways: Sequence[_TwoWays], gradient: Tensor) -> PathLengths:
    n = len(ways)
    random = torch.Generator().manual_seed(0)
    measured = spread(range(n + 1), LENGTHS)
    most = max(2, min(PATHS, PASSES // (n * len(measured))))
    logs = []
    for k in measured:
        norms = [_log_norm(ways, chosen, gradient) for chosen in _sets(n, k, most, random)]
        logs.append(np.logaddexp.reduce(norms) - math.log(len(norms)))
    with np.errstate(invalid="ignore"):  # a length without any gradient stays without
        magnitude = np.interp(np.arange(n + 1), measured, logs)
    magnitude = np.where(np.isnan(magnitude), -np.inf, magnitude)
    count = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1)]
    weighted = magnitude + np.array(count)
    total = np.logaddexp.reduce(weighted)
    share = np.exp(weighted - total) if np.isfinite(total) else np.zeros(n + 1)
    mean = float((share * np.arange(n + 1)).sum())
    return PathLengths(np.exp(magnitude).tolist(), share.tolist(), mean)


def _sets(n: int, k: int, most: int, random: torch.Generator) -> list[set[int]]:
    if math.comb(n, k) <= most:
        return [set(one) for one in itertools.combinations(range(n), k)]
    return [set(torch.randperm(n, generator=random)[:k].tolist()) for _ in range(most)]


def _log_norm(ways: Sequence[_TwoWays], chosen: set[int], gradient: Tensor) -> float:
    """Return the log of the norm that is left of a gradient of norm 1 along one path."""
    log = 0.0
    gradient = gradient / gradient.norm().clamp(min=torch.finfo(gradient.dtype).tiny)
    for number in reversed(range(len(ways))):
        way = ways[number]
        gradient = way.through(gradient) if number in chosen else way.past(gradient)
        norm = float(gradient.norm())
        if not norm > 0:
            return -math.inf
        log += math.log(norm)
        gradient = gradient / norm
    return log
