"""Equal size, whatever the block: the widths at which a whole network costs what highway's costs.

What a variant may change is the width of the stack it stands in (`cbhg.channels`,
`postnet.channels`), and where that is not enough the growth of a dense one; everything else of the
network stays, so the GRU behind a wider stack reads more, and that counts too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from tacoskip.blocks import build_block
from tacoskip.blocks.build import topology_of
from tacoskip.blocks.cost import macs, parameters
from tacoskip.config import Config, with_block
from tacoskip.models.initial import outline
from tacoskip.models.settings import CBHGSettings

PLACES = {"tts": ("cbhg", "postnet"), "asr": ("cbhg",)}

# Share of the baseline's cost by which a matched network may miss it.
TOLERANCE = 0.02
# Widths that are tried around one that a family cannot have (an odd one, one its groups do not
# divide).
REACH = 32
# Times the baseline's width, beyond which no match is looked for.
WIDEST = 64.0

# Builds the network of a config; its `example()` are inputs of `forward` to count MACs on.
Build = Callable[[Config], Any]


@dataclass(frozen=True)
class Match:
    """How a network was made to cost what the baseline's does.

    by: params | macs. reference, reached: parameters, or multiply-adds of the network's example.
    settings: what was solved, by dotted key.
    """

    by: str
    reference: float
    reached: float
    settings: dict[str, int]

    @property
    def percent(self) -> float:
        """How far the network misses the baseline, in % of it."""
        return 100 * (self.reached / self.reference - 1)

    @property
    def within(self) -> bool:
        """Whether that is within TOLERANCE."""
        return abs(self.percent) <= 100 * TOLERANCE


def baseline_of(config: Config) -> Config:
    """Return the same network with highway in every place, at the same depths and widths."""
    return replace(config, block="highway", skip="", topology="", block_options={})


def matched(config: Config, build: Build, baseline: Config | None = None) -> tuple[Config, Match]:
    """Return the config at the stack widths that bring it nearest to the baseline's cost, match
    done and so none.

    config.match says in what: params | macs. baseline: by default `baseline_of(config)`. Places
    whose stack is the baseline's own keep their width. The cost may be missed where a family has
    only few widths, or where a stack cannot get as small as highway's: see `Match.within`.
    """
    baseline = baseline or baseline_of(config)
    cost = _costs(config.match, build)
    reference = cost(baseline)
    places = PLACES[config.task]
    free = [place for place in places if _stack(config, place) != _stack(baseline, place)]
    found = _resized(config, baseline, free, cost, reference) if free else config
    while cost(found) > (1 + TOLERANCE) * reference:
        thinner = _halved_growth(config)
        if thinner == config:
            break
        config = thinner
        found = _resized(config, baseline, free, cost, reference)
    solved = {f"{place}.channels": getattr(found, place).channels for place in free}
    growth = found.block_options.get("growth")
    solved |= {"block_options.growth": int(growth)} if free and growth else {}
    return replace(found, match="none"), Match(config.match, reference, cost(found), solved)


def _resized(
    config: Config,
    baseline: Config,
    free: list[str],
    cost: Callable[[Config], float],
    reference: float,
) -> Config:
    """Return the config with the widths of the free places that come nearest to the reference."""

    @cache
    def at(widths: tuple[int, ...]) -> float:
        return cost(_with_widths(config, dict(zip(free, widths, strict=True))))

    fits = {place: _fitting(_stack(config, place)) for place in free}
    start = {place: getattr(baseline, place).channels for place in free}

    def scaled(factor: float) -> tuple[int, ...]:
        return tuple(fits[place](round(factor * start[place])) for place in free)

    def miss(widths: tuple[int, ...]) -> float:
        return abs(at(widths) - reference)

    best = min(_bisect(at, scaled, reference), key=miss)
    for place in range(len(free)):  # one place alone moves in smaller steps than all together
        if miss(best) < TOLERANCE / 4 * reference:
            break
        near = [fits[free[place]](best[place] + d) for d in range(-REACH, REACH + 1)]
        moved = {(*best[:place], width, *best[place + 1 :]) for width in near if width > 0}
        best = min({best, *moved}, key=miss)
    return _with_widths(config, dict(zip(free, best, strict=True)))


def _halved_growth(config: Config) -> Config:
    """Return the config with half the growth in its dense stacks; the same where that is over."""
    topology = topology_of(config.block, config.topology)
    if topology is None or not topology.growth:
        return config
    growth = int(config.block_options.get("growth", topology.growth))
    return replace(config, block_options={**config.block_options, "growth": max(1, growth // 2)})


def _bisect(
    at: Callable[[tuple[int, ...]], float],
    scaled: Callable[[float], tuple[int, ...]],
    reference: float,
) -> set[tuple[int, ...]]:
    """Return the widths met on the way to the factor at which the cost passes the reference."""
    low, high = 0.0, 1.0
    tried = {scaled(low), scaled(high)}
    while at(scaled(high)) < reference and high < WIDEST:
        low, high = high, 2 * high
        tried.add(scaled(high))
    while scaled(low) != scaled(high):
        middle = (low + high) / 2
        widths = scaled(middle)
        tried.add(widths)
        low, high = (middle, high) if at(widths) < reference else (low, middle)
        if high - low < 1e-4:
            break
    return tried


def _costs(by: str, build: Build) -> Callable[[Config], float]:
    def cost(config: Config) -> float:
        if by == "params":
            with outline():
                return parameters(build(config))
        with torch.random.fork_rng():
            network = build(config)
            return macs(network, *network.example())

    return cost


def _fitting(stack: CBHGSettings) -> Callable[[int], int]:
    """Return what gives the nearest width that the stack's family can have, the lesser first."""

    @cache
    def fits(width: int) -> bool:
        try:
            with outline():
                build_block(
                    stack.block,
                    width,
                    min(stack.depth, 2),
                    stack.skip,
                    stack.topology,
                    **stack.block_options,
                )
        except ValueError:
            return False
        return True

    def nearest(width: int) -> int:
        width = max(width, 2)
        near = (w for d in range(REACH + 1) for w in (width - d, width + d) if w > 1 and fits(w))
        return next(near, width)

    return nearest


def _stack(config: Config, place: str) -> CBHGSettings:
    return with_block(getattr(config, place), config)


def _with_widths(config: Config, widths: dict[str, int]) -> Config:
    changed = {place: replace(getattr(config, place), channels=w) for place, w in widths.items()}
    return replace(config, **changed)
