"""Simultaneous intervals of differences between variants whose spreads may differ.

Variances are moderated across variants (Smyth 2004, "Linear models and empirical Bayes methods").
The largest error of all differences is simulated, as in Dunnett's test (1955), but for spreads
that differ as much as `SPREADS`. docs/explanation/statistics.md tests it.

V variants, K comparisons, N draws.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacoskip.ablation.power import LEVEL

DRAWS = 20_000
# Degrees of freedom of the variance that all share. More give more power at three seeds, and more
# errors where one variant's sd is far above the others' (simulated).
PRIOR_DF = 12
# Sds of variants in the simulated ablations, each as likely. With sds of 1 and 2 the error is then
# near 6 %; a ratio of 2 would make it 5 % and cost a point of power.
SPREADS = (1.0, 1.8)
# A variant whose sd is WIDE times the median is judged by its own spread, or is unstable; one of
# WILD times says nothing about others. Where it has two runs, twice as many times.
WIDE, WILD = 3.5, 6.0
# Degrees of freedom of an error of clips: 60 clips', less what the noise of runs takes.
CLIPS_DF = 30

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation of n values; None: unknown."""

    n: int
    mean: float | None = None
    sd: float | None = None


class Interval(NamedTuple):
    """A simultaneous interval, its p, the standard deviation of runs behind it, and whether that of
    the variant is WIDE.
    """

    low: float
    high: float
    p: float
    sd: float
    wide: bool


def summarize(values: Sequence[float]) -> Summary:
    """Return mean and standard deviation, as far as n allows."""
    if len(values) < 2:
        return Summary(len(values), float(values[0]) if values else None)
    equal = np.ptp(values) <= 1e-9 * np.max(np.abs(values))  # up to rounding errors
    sd = 0.0 if equal else float(np.std(values, ddof=1))
    return Summary(len(values), float(np.mean(values)), sd)


def simultaneous(
    summaries: Mapping[str, Summary],
    references: Mapping[str, str],
    level: float = LEVEL,
    clip_errors: Mapping[str, float] | None = None,
    share: float = 1.0,
) -> dict[str, Interval]:
    """Return the intervals of all differences, by variant; none where runs have no spread.

    clip_errors: standard errors of differences from the choice of clips, counted as independent.
    share: of the degrees of freedom, what seed effects left.

    Differences are divided by moderated standard errors and made normal, as t of about `df` degrees
    of freedom (Wallace 1959), so that all of them are comparable. One critical value holds for the
    largest: that of simulated ablations of as many runs, without differences.
    """
    names = list(summaries)
    if not references or not any(one.sd for one in summaries.values()):
        return {}
    n = [one.n for one in summaries.values()]
    a = [names.index(name) for name in references]
    b = [names.index(name) for name in references.values()]
    design = _Design(tuple(n), share, tuple(a), tuple(b))
    squares = np.array([one.sd or 0.0 for one in summaries.values()]) ** 2 / share
    squares = np.maximum(squares, 0.01 * np.median(squares[squares > 0]))
    wide = squares > _limit(squares, design.df)
    of_clips = np.array([(clip_errors or {}).get(name, 0.0) for name in references])
    usual = np.average(squares, weights=design.df * ~wide)
    unit = math.sqrt(usual / np.square(SPREADS).mean())
    largest = _largest_errors(design, tuple((of_clips / unit).tolist()))
    of_seeds, scale, df = design.standard_errors(squares, of_clips)
    half = scale * _student(largest[int((1 - level) * DRAWS)], df)
    means = np.array([one.mean for one in summaries.values()])
    mean = means[a] - means[b]
    p = 1 - np.searchsorted(largest, _normal(mean / scale, df)) / DRAWS
    sd = of_seeds / np.sqrt(1 / np.array(n)[a] + 1 / np.array(n)[b])
    columns = [column.tolist() for column in (mean - half, mean + half, p, sd, wide[a])]
    rows = zip(references, *columns, strict=True)
    return {name: Interval(*row) for name, *row in rows}


@dataclass(frozen=True)
class _Design:
    """Numbers of runs, the share of the degrees of freedom that is left, and which variants are
    compared with which.
    """

    n: tuple[int, ...]
    share: float
    a: tuple[int, ...]
    b: tuple[int, ...]

    @property
    def df(self) -> Array:
        return self.share * (np.array(self.n) - 1)

    def standard_errors(self, squares: Array, of_clips: Array) -> tuple[Array, Array, Array]:
        """Return standard errors of differences, of runs alone and with clips, and their degrees of
        freedom (Welch-Satterthwaite): (..., K) from variances of runs (..., V) and errors of clips.
        """
        variances, df = moderated(squares, self.df)
        of_means = variances / np.array(self.n)
        of_seeds = of_means[..., self.a] + of_means[..., self.b]
        total, parts = of_seeds + of_clips**2, of_means**2 / df
        df = total**2 / (parts[..., self.a] + parts[..., self.b] + of_clips**4 / CLIPS_DF)
        return np.sqrt(of_seeds), np.sqrt(total), df


@lru_cache(maxsize=64)
def _largest_errors(design: _Design, of_clips: tuple[float, ...]) -> Array:
    """Return the largest errors in simulated ablations without differences, in order: (N,).

    of_clips: errors of clips, in the unit of SPREADS.
    """
    random, clips = np.random.default_rng(0), np.array(of_clips)
    sds = random.choice(SPREADS, (DRAWS, len(design.n)))
    half = np.maximum(design.df, 1) / 2
    squares = sds**2 * random.standard_gamma(half, sds.shape) / half
    errors = random.standard_normal(sds.shape) * sds / np.sqrt(design.n)
    errors = errors[:, design.a] - errors[:, design.b]
    if clips.any():
        errors += clips * random.standard_normal(errors.shape)
        clips = clips * np.sqrt(random.standard_gamma(CLIPS_DF / 2, errors.shape) * 2 / CLIPS_DF)
    _, scale, df = design.standard_errors(squares, clips)
    return np.sort(_normal(errors / scale, df).max(1))


def moderated(squares: Array, df: Array) -> tuple[Array, Array]:
    """Return variances drawn towards a common one, and their degrees of freedom: (..., V).

    squares: each variant's own estimate; df (V,): its degrees of freedom. The common variance is
    the root of the mean square, which grows where variances differ. A wide variant keeps its own,
    counts as one at the limit, and from WILD times the median sd on not at all.
    """
    limit = _limit(squares, df)
    wide, counted = squares > limit, df * (squares <= limit * (WILD / WIDE) ** 2)
    total = (counted * np.minimum(squares, limit) ** 2).sum(-1, keepdims=True)
    common = np.sqrt(total / counted.sum(-1, keepdims=True))
    prior = np.where(wide, 0, PRIOR_DF)
    variances = (prior * common + df * squares) / (prior + df)
    return variances, np.minimum(prior + df, df.sum())


def _limit(squares: Array, df: Array) -> Array:
    """Return the variance above which a variant is wide (..., V): none of fewer than three is."""
    if (df > 0).sum() < 3:
        return np.full(df.shape, np.inf)
    median = np.median(squares[..., df > 0], -1, keepdims=True)
    factor = np.select([df > 1, df > 0], [1, 4], np.inf)
    return np.asarray(WIDE**2 * median * factor)


def wide_variants(summaries: Mapping[str, Summary]) -> set[str]:
    """Name the variants whose sd is far above the median."""
    spreads = {name: one for name, one in summaries.items() if one.sd}
    squares = np.array([one.sd for one in spreads.values()], float) ** 2
    limit = _limit(squares, np.array([one.n - 1 for one in spreads.values()]))
    return {name for name, wide in zip(spreads, squares > limit, strict=True) if wide}


def _normal(t: Array, df: Array) -> Array:
    """Return |t| as the normal deviate of equal probability (Wallace 1959)."""
    return np.asarray((8 * df + 1) / (8 * df + 3) * np.sqrt(df * np.log1p(t**2 / df)))


def _student(normal: float, df: Array) -> Array:
    """Invert `_normal`."""
    return np.asarray(np.sqrt(df * np.expm1((normal * (8 * df + 3) / (8 * df + 1)) ** 2 / df)))
