"""What seeds can tell: one error model for p, interval and verdict of every comparison.

A variant has one value a run. Where the runs of a seed resemble each other, what they share is
subtracted first (`seed_effects`); then runs are independent. Variances are moderated across
variants (Smyth 2004, "Linear models and empirical Bayes methods"): they come from a scaled inverse
chi-squared distribution with `d0` degrees of freedom around `s0²`. Both are integrated out, so that
few runs do not claim that all variants spread equally. Intervals are simultaneous, as Dunnett's
(1955) for equal variances: the largest error of all differences is simulated. Held-out clips are a
second source of error: they are the same in all runs, so a difference has a value on each clip, and
how far these vary beyond the runs' own noise counts. docs/explanation/statistics.md tests all this.

V variants, K comparisons, N draws.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tacoskip.ablation.power import LEVEL, MOST_SEEDS, seeds_needed
from tacoskip.ablation.seed_effects import Values, less_seed_effects

BETTER, WORSE, SAME, CANNOT_TELL, UNSTABLE = "better", "worse", "same", "cannot tell", "unstable"

# The suffix of a variant that repeats another one with other seeds: there is no true difference.
AA = "@aa"

DRAWS = 4000
PRIOR_DF = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 1024])  # of d0, equally likely
# What counts of d0: in full, errors exceed the level where spreads are of two kinds (simulated).
TRUST = 0.85
# A variant whose sd is this many times the median is judged by its own spread, or is unstable.
WIDE = 5.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation of n values; None: unknown."""

    n: int
    mean: float | None = None
    sd: float | None = None


@dataclass(frozen=True)
class Difference:
    """Mean of a variant's runs minus mean of the reference's, and the verdict with its reason.

    low, high: the simultaneous interval. p: corrected for all comparisons of the figure; it is
    below the level exactly where the interval excludes 0. superiority: share of pairs of runs in
    which the variant's is the better one. clip_error: standard error from the choice of held-out
    clips. needed: what would tell a difference with a power of 0.8: seeds of the variant, or clips.
    """

    reference: str
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    superiority: float | None = None
    clip_error: float = 0.0
    needed: str = ""
    verdict: str = CANNOT_TELL
    reason: str = ""


@dataclass(frozen=True)
class Analysis:
    """One figure over all variants.

    sd: the median standard deviation of variants, None where none has two runs. margin: what counts
    as no difference, 0 where none was set. paired: what runs of a seed share was subtracted.
    """

    summaries: dict[str, Summary]
    differences: dict[str, Difference]
    sd: float | None
    margin: float
    paired: bool = False


class Interval(NamedTuple):
    """A simultaneous interval, its p, the standard deviation of runs behind it, and whether that of
    the variant is far above the others'.
    """

    low: float
    high: float
    p: float
    sd: float
    wide: bool


def analyse(
    values: Values,
    baseline: str,
    direction: int,
    margin_percent: float = 0.0,
    diverged: Mapping[str, int] | None = None,
    level: float = LEVEL,
    clips: Mapping[str, Array] | None = None,
    only: str = "",
) -> Analysis:
    """Compare every variant with the baseline, and an A/A variant with the one it repeats.

    Args:
        values: finite values by variant and seed.
        baseline: a variant.
        direction: 1 where higher is better, -1 where lower is better, 0 where it is unknown.
        margin_percent: a smaller share of the baseline's mean counts as no difference.
        diverged: the number of runs that diverged, by variant; they have no value.
        level: the probability of any false verdict in the figure.
        clips: a variant's values on the held-out clips, (runs, clips).
        only: the one variant to compare; the others' runs tell the spread all the same. Empty: all.
    """
    diverged, clips = diverged or {}, clips or {}
    summaries = {name: summarize(list(own.values())) for name, own in values.items()}
    margin = margin_percent / 100 * abs(summaries.get(baseline, Summary(0)).mean or 0.0)
    references = _references(values, diverged, baseline)
    references = {a: b for a, b in references.items() if only in ("", a)}
    clip_errors = {
        a: _clip_error(clips.get(a), clips.get(b)) for a, b in references.items() if a in values
    }
    intervals, sd, paired = _intervals(values, summaries, references, level, clip_errors)
    differences = {}
    for name, reference in references.items():
        a, b = values.get(name, {}), values[reference]
        found = intervals.get(name)
        mean = fmean(a.values()) - fmean(b.values()) if a and b else None
        mean = (found.low + found.high) / 2 if found else mean
        error, effect = clip_errors.get(name, 0.0), margin or abs(mean or 0.0)
        verdict, reason = _verdict(found, direction, margin, diverged.get(name, 0))
        needed = ""
        if verdict == CANNOT_TELL and found and direction:
            seeds = seeds_needed(found.sd, effect, len(references), level, error)
            needed = _missing(seeds and max(seeds, len(a) + 1), error, found.sd)
            reason = f"{needed} needed for {'the margin' if margin else 'this difference'}"
        differences[name] = Difference(
            reference,
            mean,
            found.low if found else None,
            found.high if found else None,
            found.p if found else None,
            superiority=_superiority(a, b, direction) if a and direction else None,
            clip_error=error,
            needed=needed,
            verdict=verdict,
            reason=reason,
        )
    return Analysis(summaries, differences, sd, margin, paired)


def _references(values: Values, diverged: Mapping[str, int], baseline: str) -> dict[str, str]:
    """Return what each variant is compared with."""
    names = [*values, *(name for name in diverged if name not in values)]
    found = {name: name.removesuffix(AA) if name.endswith(AA) else baseline for name in names}
    return {a: b for a, b in found.items() if a != b and b in values}


def _intervals(
    values: Values,
    summaries: Mapping[str, Summary],
    references: Mapping[str, str],
    level: float,
    clip_errors: Mapping[str, float],
) -> tuple[dict[str, Interval], float | None, bool]:
    """Return the interval of each difference, the median standard deviation of variants, and
    whether what runs of a seed share was subtracted; not from A/A runs, whose seeds are their own.
    """
    own_seeds = {name for name in values if name.endswith(AA)}
    less, share = less_seed_effects(values, _wide(summaries) | own_seeds)
    if any(b not in less for a, b in references.items() if a in less):
        less, share = values, 1.0
    used = {name: summarize(list(own.values())) for name, own in less.items()}
    intervals = dict[str, Interval]()
    for group, of, left in ((values.keys() - less, summaries, 1.0), (less, used, share)):
        pairs = {a: b for a, b in references.items() if a in group}
        intervals |= simultaneous(of, pairs, level, clip_errors, left)
    spreads = [one.sd for one in used.values() if one.sd is not None]
    sd = float(np.median(spreads)) / math.sqrt(share) if spreads else None
    return intervals, sd, share < 1.0


def _missing(needed: int | None, clip_error: float, sd: float) -> str:
    """Name what would tell a difference."""
    if needed is None and clip_error > sd / 2:
        return "more clips"
    return f"{'more than ' + str(MOST_SEEDS) if needed is None else needed} seeds"


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

    Each error is a t of about `df` degrees of freedom; made normal, all of them are comparable, and
    one critical value holds for the largest.
    """
    names = list(summaries)
    if not references or not any(one.sd for one in summaries.values()):
        return {}
    random = np.random.default_rng(0)
    n = np.array([summaries[name].n for name in names])
    variances = draw_variances(summaries, random, share) / n  # (N, V), of means
    errors = random.standard_normal(variances.shape) * np.sqrt(variances)
    a = [names.index(name) for name in references]
    b = [names.index(name) for name in references.values()]
    of_clips = np.array([(clip_errors or {}).get(name, 0.0) for name in references])
    of_seeds = variances[:, a] + variances[:, b]  # (N, K)
    precision = 1 / (of_seeds + of_clips**2)
    scale = precision.mean(0) ** -0.5
    df = 2 * precision.mean(0) ** 2 / np.maximum(precision.var(0), 1e-6 * precision.mean(0) ** 2)
    errors = errors[:, a] - errors[:, b] + of_clips * random.standard_normal(precision.shape)
    largest = np.sort(_normal(errors / scale, df).max(1))
    critical = largest[int((1 - level) * DRAWS)]
    half = scale * _student(critical, df)
    means = np.array([summaries[name].mean for name in names])
    mean = means[a] - means[b]
    p = 1 - np.searchsorted(largest, _normal(mean / scale, df)) / DRAWS
    sd = (1 / of_seeds).mean(0) ** -0.5 / np.sqrt(1 / n[a] + 1 / n[b])
    columns = [column.tolist() for column in (mean - half, mean + half, p, sd)]
    wide = _wide(summaries)
    rows = zip(*columns, [name in wide for name in references], strict=True)
    return {name: Interval(*row) for name, row in zip(references, rows, strict=True)}


def draw_variances(
    summaries: Mapping[str, Summary], random: np.random.Generator, share: float = 1.0
) -> Array:
    """Draw every variant's variance from its distribution given all runs: (N, V)."""
    wide = np.array([name in _wide(summaries) for name in summaries])
    df = share * np.array([one.n - 1 for one in summaries.values()])
    squares = np.array([one.sd or 0.0 for one in summaries.values()]) ** 2 / share
    squares = np.maximum(squares, 0.01 * np.median(squares[squares > 0]))
    usual = (df > 0) & ~wide if ((df > 0) & ~wide).any() else df > 0
    logs = np.log(squares[usual])
    grid = np.linspace(logs.min() - 2, logs.max() + 2, 60)  # of log s0²
    half, prior = df[usual][:, None, None] / 2, PRIOR_DF[:, None] / 2
    ratio = np.exp(logs[:, None] - grid)[:, None, :] * half / prior  # s² / s0², F-distributed
    density = half * np.log(ratio) - (half + prior) * np.log1p(ratio) - special.betaln(half, prior)
    weights = np.exp(density.sum(0) - density.sum(0).max()).ravel()
    steps = (np.arange(DRAWS) + 0.5) / DRAWS
    chosen = random.permutation(np.searchsorted(weights.cumsum() / weights.sum(), steps))
    d0 = np.where(wide, 0, TRUST * PRIOR_DF[chosen // len(grid)][:, None])
    s0 = np.exp(grid[chosen % len(grid)])[:, None]
    return np.asarray((d0 * s0 + df * squares) / (2 * random.standard_gamma((d0 + df) / 2)))


def _verdict(
    found: Interval | None, direction: int, margin: float, diverged: int
) -> tuple[str, str]:
    if diverged:
        return UNSTABLE, f"{diverged} runs diverged"
    if found is None:
        return CANNOT_TELL, "runs show no spread"
    if not direction:
        return CANNOT_TELL, "which way is better is not known"
    if -margin < found.low and found.high < margin:
        return SAME, "the interval lies within the margin"
    if found.low > 0 or found.high < 0:
        return (BETTER if found.low * direction > 0 else WORSE), "the interval excludes 0"
    if found.wide:
        return UNSTABLE, f"its runs spread over {WIDE:.0f} times as far as the others'"
    return CANNOT_TELL, ""


def _wide(summaries: Mapping[str, Summary]) -> set[str]:
    spreads = {name: one.sd for name, one in summaries.items() if one.sd}
    limit = WIDE * float(np.median([*spreads.values()])) if len(spreads) > 2 else math.inf
    return {name for name, sd in spreads.items() if sd > limit}


def _clip_error(a: Array | None, b: Array | None) -> float:
    """Return the standard error of the mean difference from the choice of clips, without what runs
    add on each clip, since their spread is counted already; 0 where it is not known.
    """
    if a is None or b is None or a.shape[1] != b.shape[1] or a.shape[1] < 2:
        return 0.0
    variance = float(np.var(a.mean(0) - b.mean(0), ddof=1)) - _noise(a) - _noise(b)
    return math.sqrt(max(variance, 0.0) / a.shape[1])


def _noise(clips: Array) -> float:
    """Return the variance that single runs' noise gives their mean on one clip; 0 for one run."""
    n, count = clips.shape
    own = clips - clips.mean(0) - clips.mean(1, keepdims=True) + clips.mean()
    return float((own**2).sum()) / ((n - 1) * (count - 1) * n) if n > 1 else 0.0


def _superiority(a: Mapping[int, float], b: Mapping[int, float], direction: int) -> float:
    signs = np.sign(np.subtract.outer([*a.values()], [*b.values()])) * direction
    return float((signs.mean() + 1) / 2)


def _normal(t: Array, df: Array) -> Array:
    """Return |t| as the normal deviate of equal probability (Wallace 1959)."""
    return np.asarray((8 * df + 1) / (8 * df + 3) * np.sqrt(df * np.log1p(t**2 / df)))


def _student(normal: float, df: Array) -> Array:
    """Invert `_normal`."""
    return np.asarray(np.sqrt(df * np.expm1((normal * (8 * df + 3) / (8 * df + 1)) ** 2 / df)))
