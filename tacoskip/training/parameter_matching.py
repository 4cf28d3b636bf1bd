"""Parameter matching: the stack widths at which a network costs what the baseline costs.

match=stack: the stacks alone, with the linear layers around them. `block_options.width` changes;
all else, the GRU's inputs too, stays as it is.
match=params, macs: the whole network. `cbhg.channels` and `postnet.channels` change. The GRU behind
a wider stack has more inputs, and they count.

Where a dense stack is still too large, its growth changes, too.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch

from tacoskip.blocks import build_block
from tacoskip.blocks.build import topology_of
from tacoskip.blocks.cost import macs, parameters
from tacoskip.config import CBHGS, Config, with_block
from tacoskip.models.cbhg import CBHG
from tacoskip.models.initial import outline
from tacoskip.models.settings import CBHGSettings

# Share of the baseline's cost by which a matched network may miss it, and a stack alone: a channel
# more is up to 7 % of a narrow one.
TOLERANCE, STACK_TOLERANCE = 0.02, 0.05
# Widths tried on either side of one that a family cannot have: an odd one, or one that its groups
# do not divide.
REACH = 32
# Steps of the search in which a stack gets a width of the baseline's more, and the first and the
# last step: a quarter of it, and 64 times.
STEPS = 256
NARROWEST, WIDEST = STEPS // 4, 64 * STEPS

# Builds the network of a config. Its `example()` returns inputs of `forward` to count MACs with.
Build = Callable[[Config], Any]
Widths = tuple[int, ...]  # of the stacks that are resized


@dataclass(frozen=True)
class ParameterMatch:
    """The result of parameter matching.

    by: stack | params | macs. reference, reached: the baseline's cost and the network's, in
    parameters or in multiply-adds of the network's example. settings: what was solved, by dotted
    key.
    """

    by: str
    reference: float
    reached: float
    settings: dict[str, float]

    @property
    def percent(self) -> float:
        """By how much the network exceeds the baseline, in %."""
        return 100 * (self.reached / self.reference - 1)

    @property
    def within(self) -> bool:
        """Whether that is within the tolerance."""
        tolerance = STACK_TOLERANCE if self.by == "stack" else TOLERANCE
        return abs(self.percent) <= 100 * tolerance

    @property
    def warning(self) -> str:
        cost = f"misses highway's cost by {self.percent:+.1f} %"
        return f"match={self.by}: the network {cost}, the nearest it can come"


def baseline_of(config: Config) -> Config:
    """Return the same network with highway stacks of the same depths and widths."""
    return replace(config, block="highway", skip="", topology="", block_options={})


def match_parameters(
    config: Config, build: Build, baseline: Config | None = None
) -> tuple[Config, ParameterMatch]:
    """Return the config with the stack widths that bring it nearest to the baseline's cost.

    The cost may be missed where a family has only few widths, or cannot be small enough at a
    quarter of the baseline's width: see `ParameterMatch.within`.

    Args:
        config: its `match` says what to match: stack | params | macs. It is none in the config
            returned.
        build: builds the network of a config.
        baseline: by default `baseline_of(config)`. A stack that equals the baseline's keeps its
            width.
    """
    baseline = baseline or baseline_of(config)
    cost = partial(_cost, config.match, build)
    reference = cost(baseline)
    sections = [one for one in CBHGS[config.task] if _stack(config, one) != _stack(baseline, one)]
    widths = {section: getattr(baseline, section).channels for section in sections}

    def resized(config: Config) -> Config:
        if not sections:
            return config
        if config.match == "stack":
            return _resize_inside(config, cost, reference)
        return _resize(config, widths, cost, reference)

    found = resized(config)
    while cost(found) > (1 + TOLERANCE) * reference:
        smaller = _halve_growth(config)
        if smaller == config:
            break
        config, found = smaller, resized(smaller)
    settings: dict[str, float] = {}
    if sections and config.match == "stack":
        settings["block_options.width"] = float(found.block_options["width"])
    elif sections:
        settings = {f"{section}.channels": getattr(found, section).channels for section in sections}
    if sections and found.block_options.get("growth"):
        settings["block_options.growth"] = int(found.block_options["growth"])
    match = ParameterMatch(config.match, reference, cost(found), settings)
    return replace(found, match="none"), match


def _resize_inside(config: Config, cost: Callable[[Config], float], reference: float) -> Config:
    """Return the config with the width inside its stacks that comes nearest to the reference."""

    def at(step: int) -> Config:
        return replace(config, block_options={**config.block_options, "width": step / STEPS})

    @cache
    def cost_at(step: int) -> float:
        try:
            return cost(at(step))
        except ValueError:  # a width that the family cannot have
            return math.nan

    def next_cost(step: int) -> float:
        own = cost_at(step)
        return next_cost(step + 1) if math.isnan(own) and step < WIDEST else own

    step = _first_step(next_cost, reference)
    around = range(max(step - REACH, NARROWEST), step + REACH)
    near = [one for one in around if not math.isnan(cost_at(one))]
    return at(min(near, key=lambda one: abs(cost_at(one) - reference), default=step))


def _resize(
    config: Config, baseline: dict[str, int], cost: Callable[[Config], float], reference: float
) -> Config:
    """Return the config with the widths, by section, that come nearest to the reference.

    All of the baseline's widths are scaled by one factor first. Then one at a time changes, in
    smaller steps.
    """
    fits = [_nearest_width(_stack(config, section)) for section in baseline]

    def with_widths(widths: Widths) -> Config:
        sizes = {
            section: replace(getattr(config, section), channels=width)
            for section, width in zip(baseline, widths, strict=True)
        }
        return replace(config, **sizes)

    @cache
    def cost_at(widths: Widths) -> float:
        return cost(with_widths(widths))

    def scaled(step: int) -> Widths:
        widths = zip(fits, baseline.values(), strict=True)
        return tuple(fit(round(step / STEPS * width)) for fit, width in widths)

    def error(widths: Widths) -> float:
        return abs(cost_at(widths) - reference)

    step = _first_step(lambda step: cost_at(scaled(step)), reference)
    best = min((scaled(step), scaled(max(step - 1, NARROWEST))), key=error)
    for index, (fit, width) in enumerate(zip(fits, baseline.values(), strict=True)):
        if error(best) < TOLERANCE / 4 * reference:
            break
        bound = round(NARROWEST / STEPS * width)
        near = {fit(max(best[index] + delta, bound)) for delta in range(-REACH, REACH + 1)}
        changed = {(*best[:index], width, *best[index + 1 :]) for width in near}
        best = min({best, *changed}, key=error)
    return with_widths(best)


def _first_step(cost: Callable[[int], float], reference: float) -> int:
    """Return the first step of the search whose cost reaches the reference."""
    high = STEPS
    while cost(high) < reference and high < WIDEST:
        high *= 2
    return NARROWEST + bisect_left(range(NARROWEST, high), reference, key=cost)


def _halve_growth(config: Config) -> Config:
    """Return the config with half the growth of its dense stacks, or the same if it has none."""
    topology = topology_of(config.block, config.topology)
    if topology is None or not topology.growth:
        return config
    growth = int(config.block_options.get("growth", topology.growth))
    return replace(config, block_options={**config.block_options, "growth": max(1, growth // 2)})


def _cost(by: str, build: Build, config: Config) -> float:
    if by in ("params", "stack"):
        with outline():
            network = build(config)
        if by == "params":
            return parameters(network)
        cbhgs = [module for module in network.modules() if isinstance(module, CBHG)]
        return sum(parameters(part) for one in cbhgs for part in (one.widen, one.stack, one.narrow))
    with torch.random.fork_rng():
        network = build(config)
        return macs(network, *network.example())


def _nearest_width(stack: CBHGSettings) -> Callable[[int], int]:
    """Return what gives the nearest width that the stack's family can have."""
    options: dict[str, Any] = {"skip": stack.skip, "topology": stack.topology}
    options |= stack.block_options

    @cache
    def can_have(width: int) -> bool:
        try:
            with outline():
                build_block(stack.block, width, min(stack.depth, 2), **options)
        except ValueError:
            return False
        return True

    def nearest(width: int) -> int:
        width = max(width, 2)
        near = (width + sign * delta for delta in range(REACH + 1) for sign in (-1, 1))
        return next((each for each in near if each > 1 and can_have(each)), width)

    return nearest


def _stack(config: Config, section: str) -> CBHGSettings:
    return with_block(getattr(config, section), config)
