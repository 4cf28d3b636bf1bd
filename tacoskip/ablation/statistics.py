"""What seeds can tell: intervals, paired tests, Holm's correction, and the noise floor.

A variant is measured once a seed. The same seed gives two variants the same data in the same order
and the same initial weights where they share any, so they are compared seed by seed.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

LEVEL = 0.05
BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"

# A variant of this ending is the one before it again, with other seeds: truly no different.
AA = "@aa"

Values = Mapping[str, Mapping[int, float]]  # variant -> seed -> value


@dataclass(frozen=True)
class Summary:
    """Mean of n values, their standard deviation, and the mean's 95 % t interval.

    None: unknown. One value has no spread; equal values have sd 0 and no interval, because a
    figure that happened not to move is no proof that it cannot.
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference(Summary):
    """Variant minus reference over n seeds, with its verdict; `reason` says why none is given.

    p: t test with the spread that is left over all variants and seeds, or, for a variant that
    spreads far wider than the rest, with its own. p_holm: the same, corrected for all variants of
    the figure. p_paired: the test with the differences' own spread alone, not corrected.
    noise_floor: half-width within which two means of n seeds of one block differ 95 % of the time.
    """

    reference: str = ""
    p: float | None = None
    p_holm: float | None = None
    p_paired: float | None = None
    noise_floor: float | None = None
    verdict: str = CANNOT_TELL
    reason: str = ""


@dataclass(frozen=True)
class Spread:
    """A standard deviation and its degrees of freedom."""

    sd: float
    df: int

    def half_width(self, n: int) -> float:
        """Return how far two means of n values each lie apart at most, 95 % of the time."""
        return float(special.stdtrit(self.df, 1 - LEVEL / 2)) * self.sd * math.sqrt(2 / n)


@dataclass(frozen=True)
class Analysis:
    """One figure over all variants. restless: those that spread far wider than the rest.

    noise: within variants, without the restless ones.
    """

    summaries: dict[str, Summary]
    differences: dict[str, Difference]
    noise: Spread | None
    restless: list[str]


def analyse(values: Values, baseline: str, direction: int) -> Analysis:
    """Compare every variant with the baseline, and an A/A variant with the one it repeats.

    direction: 1 where higher is better, -1 where lower is, 0 where nobody knows.
    """
    restless = restless_variants(values)
    calm = {name: seeds for name, seeds in values.items() if name not in restless}
    noise = pooled_spread([list(seeds.values()) for seeds in calm.values()])
    residual = residual_spread(calm)
    found: dict[str, Difference] = {}
    for name, seeds in values.items():
        again = name.endswith(AA)
        reference = name.removesuffix(AA) if again else baseline
        if name != reference and reference in values:
            deltas = _deltas(seeds, values[reference], in_order=again)
            # Other seeds do not cancel, so what is left without the seeds is too little for A/A.
            spread = noise if again else residual
            own = bool({name, reference} & set(restless))
            found[name] = _difference(deltas, reference, noise, None if own else spread)
    p_holm = _corrected({name: one.p for name, one in found.items()})
    return Analysis(
        {name: summarize(list(seeds.values())) for name, seeds in values.items()},
        {name: _judged(one, p_holm.get(name), direction) for name, one in found.items()},
        noise,
        restless,
    )


def summarize(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation and 95 % t interval, as far as n allows."""
    n = len(values)
    if n < 2:
        return Summary(n, float(values[0]) if n else None)
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    if np.ptp(values) <= 1e-9 * np.max(np.abs(values)):  # nothing but rounding
        return Summary(n, mean, 0.0)
    half = float(special.stdtrit(n - 1, 1 - LEVEL / 2)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected by Holm's step-down method, in the order given."""
    corrected, floor = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = floor
    return corrected


def pooled_spread(groups: Collection[Sequence[float]]) -> Spread | None:
    """Return the standard deviation within groups; None where no group has two values."""
    df = sum(len(group) - 1 for group in groups)
    if df < 1:
        return None
    squares = sum(float(np.var(group)) * len(group) for group in groups)
    return Spread(math.sqrt(squares / df), df)


def residual_spread(values: Values) -> Spread | None:
    """Return what is left of the values' spread when each is its variant plus its seed.

    This is the error term of randomised complete blocks, by least squares, since a failed run
    leaves a hole. None where variants and seeds explain everything.
    """
    cells = [(name, seed, y) for name, own in values.items() for seed, y in own.items()]
    names, seeds = list(values), sorted({seed for _, seed, _ in cells})
    design = np.zeros((len(cells), len(names) + len(seeds)))
    for row, (name, seed, _) in enumerate(cells):
        design[row, [names.index(name), len(names) + seeds.index(seed)]] = 1
    y = np.array([cell[2] for cell in cells])
    weights, _, rank, _ = np.linalg.lstsq(design, y)
    df = len(cells) - int(rank)
    if not df:
        return None
    left = float(np.linalg.norm(y - design @ weights))
    rounding = 1e-9 * float(np.abs(y).max())
    return Spread(left / math.sqrt(df) if left > rounding else 0.0, df)


def restless_variants(values: Values) -> list[str]:
    """Return the variants whose spread is too wide to be pooled with the rest.

    Cochran's C test at 1 %, again without what it found until it finds no more; with unequal seeds
    the mean count is used, which is a good guide.
    """
    variances = {
        name: float(np.var(list(own.values()), ddof=1))
        for name, own in values.items()
        if len(own) > 1
    }
    found: list[str] = []
    while len(variances) >= 3 and sum(variances.values()) > 0:
        widest = max(variances, key=lambda name: variances[name])
        df = float(np.mean([len(values[name]) - 1 for name in variances]))
        others = len(variances) - 1
        rest = sum(variances.values()) - variances[widest]
        ratio = others * variances[widest] / max(rest, 1e-300)
        p = len(variances) * special.fdtrc(df, df * others, ratio)
        if p >= 0.01:
            break
        found.append(widest)
        del variances[widest]
    return found


def standard_errors_needed(df: int, variants: int) -> float:
    """Return how many standard errors the clearest of several differences must reach.

    Holm holds it to LEVEL / variants. df: of the spread that it is tested with.
    """
    return float(special.stdtrit(df, 1 - LEVEL / (2 * variants)))


def _deltas(a: Mapping[int, float], b: Mapping[int, float], in_order: bool) -> list[float]:
    """Return a minus b by seed. A/A runs share no seeds: any pairing is as good, so in order."""
    if in_order:
        return [a[i] - b[k] for i, k in zip(sorted(a), sorted(b), strict=False)]
    return [a[seed] - b[seed] for seed in sorted(a) if seed in b]


def _difference(
    deltas: list[float], reference: str, noise: Spread | None, spread: Spread | None
) -> Difference:
    """Test the deltas with a common spread of single values; None: with their own alone."""
    summary, n = summarize(deltas), len(deltas)
    p_paired = None
    if summary.mean is not None and summary.sd:
        p_paired = _two_sided(summary.mean, summary.sd / math.sqrt(n), n - 1)
    p = p_paired
    if p_paired is not None and summary.mean is not None and spread and spread.sd > 0:
        p = _two_sided(summary.mean, spread.sd * math.sqrt(2 / n), spread.df)
    return Difference(
        **vars(summary),
        reference=reference,
        p=p,
        p_paired=p_paired,
        noise_floor=noise.half_width(n) if noise and n else None,
    )


def _two_sided(mean: float, standard_error: float, df: int) -> float:
    return float(2 * special.stdtr(df, -abs(mean) / standard_error))


def _corrected(p_values: Mapping[str, float | None]) -> dict[str, float]:
    known = {name: p for name, p in p_values.items() if p is not None}
    return dict(zip(known, holm(list(known.values())), strict=True))


def _judged(one: Difference, p_holm: float | None, direction: int) -> Difference:
    verdict, reason = CANNOT_TELL, ""
    if one.n == 0 or one.mean is None:
        reason = f"no seed in common with {one.reference}"
    elif one.n == 1:
        reason = "one seed shows no spread"
    elif not one.sd:
        reason = "no difference" if one.mean == 0 else "the same difference in every seed: no test"
    elif not direction:
        reason = "which way is better is not known"
    elif p_holm is not None and p_holm >= LEVEL:
        reason = f"p = {p_holm:.2g} after Holm's correction"
    elif one.noise_floor is not None and abs(one.mean) <= one.noise_floor:
        reason = "within the noise floor"
    else:
        verdict = BETTER if one.mean * direction > 0 else WORSE
    known = {"p_holm": p_holm, "verdict": verdict, "reason": reason}
    return Difference(**vars(one) | known)
