"""What seeds can tell: intervals, paired tests, Holm's correction, and the noise floor.

Each variant has one value per seed. Equal seeds give two variants equal data in equal order, and
equal initial weights where they share any, so variants are compared seed by seed.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

LEVEL = 0.05
BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"

# The suffix of a variant that repeats another one with other seeds: there is no true difference.
AA = "@aa"

Values = Mapping[str, Mapping[int, float]]  # variant -> seed -> value


@dataclass(frozen=True)
class Summary:
    """Mean of n values, their standard deviation, and the mean's 95 % t interval; None: unknown.

    One value has no spread. Equal values have sd 0 and no interval: a figure that did not move may
    still be able to.
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference(Summary):
    """Variant minus reference over n seeds, and the verdict; `reason` says why there is none.

    p: of the test with the error model. p_holm: p corrected for all variants of the figure.
    p_paired: of the t test with the differences' own spread, not corrected. noise_floor: two means
    of n seeds of one block differ by less, 95 % of the time.
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
        """Return the 95 % bound on the difference between two means of n values each."""
        return _t_quantile(self.df, LEVEL) * self.sd * math.sqrt(2 / n)


@dataclass(frozen=True)
class ErrorModel:
    """The error by which the differences in one figure are judged.

    noise: of values within variants. residual: of values after each variant and each seed has its
    own mean (randomised complete blocks). Both leave out the outliers: variants whose spread is far
    wider than the others'. The differences of an outlier are tested with their own spread.
    """

    noise: Spread | None
    residual: Spread | None
    outliers: list[str]

    @classmethod
    def fit(cls, values: Values) -> "ErrorModel":
        """Estimate the errors from all variants' values."""
        outliers = wide_variants(values)
        usual = {name: seeds for name, seeds in values.items() if name not in outliers}
        noise = pooled_spread([list(seeds.values()) for seeds in usual.values()])
        return cls(noise, residual_spread(usual), outliers)

    def difference(self, values: Values, name: str, reference: str) -> Difference:
        """Return the difference between two variants with its p value, uncorrected."""
        repeated = name.endswith(AA)
        deltas = _deltas(values[name], values[reference], in_order=repeated)
        summary, n = summarize(deltas), len(deltas)
        p = p_paired = None
        if summary.mean is not None and summary.sd:
            p = p_paired = _two_sided(summary.mean, summary.sd / math.sqrt(n), n - 1)
            # The seeds of an A/A variant are others: their effect does not cancel.
            spread = self.noise if repeated else self.residual
            if spread and spread.sd > 0 and not {name, reference} & set(self.outliers):
                p = _two_sided(summary.mean, spread.sd * math.sqrt(2 / n), spread.df)
        floor = self.noise.half_width(n) if self.noise and n else None
        return Difference(
            **vars(summary), reference=reference, p=p, p_paired=p_paired, noise_floor=floor
        )


@dataclass(frozen=True)
class Analysis:
    """One figure over all variants."""

    summaries: dict[str, Summary]
    differences: dict[str, Difference]
    errors: ErrorModel


def analyse(values: Values, baseline: str, direction: int) -> Analysis:
    """Compare every variant with the baseline, and an A/A variant with the one it repeats.

    direction: 1 where higher is better, -1 where lower is better, 0 where it is unknown.
    """
    errors = ErrorModel.fit(values)
    differences: dict[str, Difference] = {}
    for name in values:
        reference = name.removesuffix(AA) if name.endswith(AA) else baseline
        if name != reference and reference in values:
            differences[name] = errors.difference(values, name, reference)
    p_values = {name: one.p for name, one in differences.items() if one.p is not None}
    p_holm = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return Analysis(
        {name: summarize(list(seeds.values())) for name, seeds in values.items()},
        {name: _judge(one, p_holm.get(name), direction) for name, one in differences.items()},
        errors,
    )


def summarize(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation and 95 % t interval, as far as n allows."""
    n = len(values)
    if n < 2:
        return Summary(n, float(values[0]) if n else None)
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    if np.ptp(values) <= 1e-9 * np.max(np.abs(values)):  # rounding errors
        return Summary(n, mean, 0.0)
    half = _t_quantile(n - 1, LEVEL) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected by Holm's step-down method, in the same order."""
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
    """Return the spread of the values' residuals after a fit of one mean per variant and per seed.

    Fitted by least squares, because failed runs leave holes. None where nothing is left.
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
    residual = float(np.linalg.norm(y - design @ weights))
    rounding = 1e-9 * float(np.abs(y).max())
    return Spread(residual / math.sqrt(df) if residual > rounding else 0.0, df)


def wide_variants(values: Values) -> list[str]:
    """Return the variants whose spread is too wide to be pooled with the others'.

    Cochran's C test at 1 %, repeated without the variants it found. With unequal seeds it uses
    their mean count, an approximation.
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


def _t_quantile(df: int, level: float) -> float:
    """Return the two-sided quantile of Student's t."""
    return float(special.stdtrit(df, 1 - level / 2))


def _two_sided(mean: float, standard_error: float, df: int) -> float:
    return float(2 * special.stdtr(df, -abs(mean) / standard_error))


def _deltas(a: Mapping[int, float], b: Mapping[int, float], in_order: bool) -> list[float]:
    """Return a minus b by seed, or in order where they share no seeds: any pairing is as good."""
    if in_order:
        return [a[i] - b[k] for i, k in zip(sorted(a), sorted(b), strict=False)]
    return [a[seed] - b[seed] for seed in sorted(a) if seed in b]


def _judge(one: Difference, p_holm: float | None, direction: int) -> Difference:
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
    return replace(one, p_holm=p_holm, verdict=verdict, reason=reason)
