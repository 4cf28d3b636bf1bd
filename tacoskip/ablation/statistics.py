"""What seeds can tell: one error model for p, interval and verdict of every comparison.

A variant has one value a run. Where the runs of a seed resemble each other, what they share is
subtracted first (`seed_effects`); then runs are independent. Variances are moderated across
variants (Smyth 2004, "Linear models and empirical Bayes methods"). Intervals are simultaneous, as
Dunnett's (1955), but for spreads that may differ: the largest error of all differences is
simulated. Held-out clips are a second source of error: they are the same in all runs, so a
difference has a value on each clip, and how far these vary beyond the runs' own noise counts.
docs/explanation/statistics.md tests all this.

V variants, K comparisons, N draws.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from tacoskip.ablation.intervals import (
    WIDE,
    Array,
    Interval,
    Summary,
    simultaneous,
    summarize,
    wide_variants,
)
from tacoskip.ablation.power import LEVEL, MOST_SEEDS, seeds_needed
from tacoskip.ablation.seed_effects import Values, less_seed_effects

BETTER, WORSE, SAME, CANNOT_TELL, UNSTABLE = "better", "worse", "same", "cannot tell", "unstable"

# The suffix of a variant that repeats another one with other seeds: there is no true difference.
AA = "@aa"


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
    less, share = less_seed_effects(values, wide_variants(summaries) | own_seeds)
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
        return UNSTABLE, f"its runs spread over {WIDE:g} times as far as the others'"
    return CANNOT_TELL, ""


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
