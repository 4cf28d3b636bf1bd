"""What a trained network loses without a unit, and how long the paths are that it learns along.

Both after Veit, Wilber and Belongie (2016, "Residual networks behave like ensembles of relatively
shallow networks"). Done once, at the end of a run, in evaluation mode; bounded by the constants
below. In both a unit that is passed by still does what stands after its join (a ReLU).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tacoskip.blocks.skips.fixed import NoSkip
from tacoskip.blocks.topologies.chain import Chain
from tacoskip.blocks.topologies.reversible import Coupling
from tacoskip.blocks.transforms import Transform
from tacoskip.blocks.unit import Unit
from tacoskip.probes.activations import stacks

# Units of a place that are dropped, spread evenly over its depth where it has more.
DROPPED = 16
# Path lengths that are measured, likewise; between them the logarithm is interpolated.
LENGTHS = 17
# Passes back through a unit, for all paths of a place together, and items of the batch for them.
PASSES, ITEMS = 2048, 4
# Paths of one length, where there are more.
PATHS = 16


@dataclass(frozen=True)
class Lesions:
    """loss: of the whole network. increase: by place and unit, what it rises by without that unit;
    None where it was not dropped, `left_out` says why.
    """

    loss: float
    increase: dict[str, list[float | None]]
    left_out: dict[str, str]


@torch.no_grad()
def lesions(model: nn.Module, losses: Sequence[Callable[[], Tensor]]) -> Lesions:
    """Drop one unit after the other and judge the network.

    losses: of a few batches, each computed anew when called; their mean counts. A unit is dropped
    by handing its input on, where that is as wide as its output; a unit of `dense` by giving zeros
    for its maps.
    """

    def mean() -> float:
        return float(torch.stack([loss() for loss in losses]).mean())

    increase, left_out = dict[str, list[float | None]](), dict[str, str]()
    with _widening(model) as widens:
        whole = mean()
    for place, stack in stacks(model).items():
        units = list(stack.units)
        increase[place] = [None] * len(units)
        fitting = [number for number, unit in enumerate(units) if unit not in widens]
        chosen = _spread(fitting, DROPPED)
        reasons = []
        if len(fitting) < len(units):
            reasons.append("units that change the width cannot be passed by")
        if len(chosen) < len(fitting):
            reasons.append(f"{len(chosen)} of {len(fitting)} units, spread evenly")
        if reasons:
            left_out[place] = "; ".join(reasons)
        for number in chosen:
            with _dropped(units[number]):
                increase[place][number] = mean() - whole
    return Lesions(whole, increase, left_out)


@contextmanager
def _widening(model: nn.Module) -> Iterator[set[nn.Module]]:
    """Collect the units whose input and output differ in width."""
    found: set[nn.Module] = set()

    def hook(unit: nn.Module, inputs: tuple[Tensor, ...], y: Tensor | tuple[Tensor, ...]) -> None:
        if isinstance(y, Tensor) and not isinstance(unit, Transform) and y.shape != inputs[0].shape:
            found.add(unit)

    units = [unit for stack in stacks(model).values() for unit in stack.units]
    handles = [unit.register_forward_hook(hook) for unit in units]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _spread(among: Sequence[int], most: int) -> list[int]:
    if len(among) <= most:
        return list(among)
    return [among[round(i * (len(among) - 1) / (most - 1))] for i in range(most)]


@contextmanager
def _dropped(unit: nn.Module) -> Iterator[None]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor | tuple[Tensor, ...]:
        if isinstance(unit, Coupling):
            return inputs[0], inputs[1]
        if isinstance(unit, Transform):
            return torch.zeros_like(y)
        transform: Any = unit.transform
        passed: Tensor = transform.after(inputs[0])
        return passed.masked_fill(~inputs[1][:, :, None], 0.0)

    handle = unit.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class PathLengths:
    """A chain of n units has n over k paths through k transforms. magnitude: mean norm of the
    gradient that comes back along one path of length 0..n (the gradient at the stack's output is
    1). share: of each length in the sum over all paths. mean: the mean length under these shares.
    """

    magnitude: list[float]
    share: list[float]
    mean: float


def path_lengths(
    model: nn.Module, loss: Callable[[], Tensor]
) -> tuple[dict[str, PathLengths], dict[str, str]]:
    """How the gradient is spread over paths, by place; and why a place is left out.

    Method of Veit et al., section 4.3: for each length k, sets of k units are drawn; gradient goes
    back through the transform alone in these, past it in the others. Magnitudes are averaged over
    sets and weighed by the number of paths. Of a unit y = join(x, F(x)), what comes through F is
    one vector-Jacobian product, the rest is the other way: a gate's own gradient and its factor on
    x go with the skip.
    """
    found: dict[str, PathLengths] = {}
    left_out: dict[str, str] = {}
    chains: dict[str, Chain] = {}
    for place, stack in stacks(model).items():
        if not isinstance(stack, Chain):
            kind = type(stack).__name__.lower()
            left_out[place] = f"{kind} has no chain of units to go through or past"
        elif isinstance(stack.units[0].skip, NoSkip):
            left_out[place] = "without skips there is one path, through every unit"
        else:
            chains[place] = stack
    if not chains:
        return found, left_out
    seen = _Pass(chains)
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False), seen.watching():
        # cuDNN has no backward of a recurrent layer in evaluation mode.
        value = loss()
    ends = [seen.ends[place] for place in chains]
    for place, gradient in zip(chains, torch.autograd.grad(value, ends), strict=True):
        ways = [_Way(unit, x[:ITEMS], mask[:ITEMS]) for unit, x, mask in seen.inputs[place]]
        found[place] = _spread_over_paths(ways, gradient[:ITEMS])
    return found, left_out


class _Pass:
    """What went into every unit of some chains in one pass, and what came out of the last."""

    def __init__(self, chains: dict[str, Chain]) -> None:
        self.chains = chains
        self.inputs: dict[str, list[tuple[nn.Module, Tensor, Tensor]]] = {p: [] for p in chains}
        self.ends: dict[str, Tensor] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        handles = []
        for place, chain in self.chains.items():
            for unit in chain.units:
                handles.append(unit.register_forward_hook(self._hook(place)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, place: str) -> Callable[..., None]:
        def hook(unit: nn.Module, inputs: tuple[Tensor, Tensor], y: Tensor) -> None:
            self.inputs[place].append((unit, inputs[0].detach(), inputs[1]))
            self.ends[place] = y

        return hook


class _Way:
    """One unit at one input x (B, T, C): back through its transform, or past it."""

    def __init__(self, unit: nn.Module, x: Tensor, mask: Tensor) -> None:
        assert isinstance(unit, Unit)
        self.h: Tensor | None = None
        self.x = x.requires_grad_()
        handle = unit.transform.register_forward_hook(self._keep)
        with torch.enable_grad():
            self.y = unit(self.x, mask)
        handle.remove()

    def _keep(self, _: nn.Module, inputs: object, h: Tensor) -> None:
        self.h = h

    def through(self, gradient: Tensor) -> Tensor:
        if self.h is None:  # a closed gate: the transform was not run
            return torch.zeros_like(self.x)
        (of_h,) = torch.autograd.grad(self.y, self.h, gradient, retain_graph=True)
        (of_x,) = torch.autograd.grad(self.h, self.x, of_h, retain_graph=True)
        return of_x

    def past(self, gradient: Tensor) -> Tensor:
        (of_x,) = torch.autograd.grad(self.y, self.x, gradient, retain_graph=True)
        return of_x - self.through(gradient)


def _spread_over_paths(ways: Sequence[_Way], gradient: Tensor) -> PathLengths:
    n = len(ways)
    random = torch.Generator().manual_seed(0)
    measured = _spread(range(n + 1), LENGTHS)
    most = max(2, min(PATHS, PASSES // (n * len(measured))))
    logs = []
    for k in measured:
        sizes = [_path(ways, chosen, gradient) for chosen in _paths(n, k, most, random)]
        logs.append(np.logaddexp.reduce(sizes) - math.log(len(sizes)))
    with np.errstate(invalid="ignore"):  # a length without any gradient stays without
        every = np.interp(np.arange(n + 1), measured, logs)
    every = np.where(np.isnan(every), -np.inf, every)
    count = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1)]
    weighed = every + np.array(count)
    total = np.logaddexp.reduce(weighed)
    share = np.exp(weighed - total) if np.isfinite(total) else np.zeros(n + 1)
    mean = float((share * np.arange(n + 1)).sum())
    return PathLengths(np.exp(every).tolist(), share.tolist(), mean)


def _paths(n: int, k: int, most: int, random: torch.Generator) -> list[set[int]]:
    if math.comb(n, k) <= most:
        return [set(one) for one in itertools.combinations(range(n), k)]
    return [set(torch.randperm(n, generator=random)[:k].tolist()) for _ in range(most)]


def _path(ways: Sequence[_Way], chosen: set[int], gradient: Tensor) -> float:
    """Log of the norm that is left of a gradient of norm 1."""
    log, start = 0.0, gradient.norm()
    gradient = gradient / start.clamp(min=torch.finfo(gradient.dtype).tiny)
    for number in reversed(range(len(ways))):
        way = ways[number]
        gradient = way.through(gradient) if number in chosen else way.past(gradient)
        size = float(gradient.norm())
        if not size > 0:
            return -math.inf
        log += math.log(size)
        gradient = gradient / size
    return log
