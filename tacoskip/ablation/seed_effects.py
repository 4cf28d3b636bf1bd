"""What the runs of one seed share: clips, their order, first weights outside the stack.

V variants, S seeds, N runs.
"""

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np
from scipy import special

SIGNIFICANT = 0.01

Values = Mapping[str, Mapping[int, float]]  # variant -> seed -> value


def less_seed_effects(values: Values, left_out: Collection[str] = ()) -> tuple[Values, float]:
    """Return the values less what the runs of each seed share, and the share of the degrees of
    freedom that remains.

    A value is the mean of its variant, plus the effect of its seed, plus noise. Where the effects
    are not significant (F test), the values are returned as they are. Otherwise each effect is
    subtracted, shrunk by what noise explains of it (best linear unbiased prediction: Robinson 1991,
    "That BLUP is a good thing"), and runs of seeds that one variant has alone are left out.

    left_out: variants to estimate no effects from: of very large noise, or with seeds of their own.
    """
    usual = {name: own for name, own in values.items() if name not in left_out}
    counts = Counter(seed for own in usual.values() for seed in own)
    seeds = [seed for seed, count in counts.items() if count > 1]
    usual = {name: own for name, own in usual.items() if not own.keys().isdisjoint(seeds)}
    runs = [
        (row, seeds.index(seed), value)
        for row, own in enumerate(usual.values())
        for seed, value in own.items()
        if seed in seeds
    ]
    if len(seeds) < 2:
        return values, 1.0
    of_variant, of_seed, y = (np.array(column) for column in zip(*runs, strict=True))
    by_variant, by_seed = np.eye(len(usual))[of_variant], np.eye(len(seeds))[of_seed]
    _, within, rank_of_variants = _fit(by_variant, y)
    found, noise, rank = _fit(np.hstack([by_variant, by_seed]), y)
    df, df_of_seeds = len(y) - rank, rank - rank_of_variants
    connected = df_of_seeds == len(seeds) - 1  # else some variants share no seed with others
    if df < 1 or not connected or noise <= 1e-12 * within:
        return values, 1.0
    noise, explained = noise / df, (within - noise) / df_of_seeds
    if special.fdtrc(df_of_seeds, df, explained / noise) > SIGNIFICANT:
        return values, 1.0
    n = by_seed.sum(0)  # (S,)
    effects = found[len(usual) :] - np.average(found[len(usual) :], weights=n)
    variance = max((explained - noise) * len(seeds) / len(y), 0.0)
    shrunk = dict(zip(seeds, effects * n * variance / (n * variance + noise), strict=True))
    less = {
        name: {seed: value - shrunk[seed] for seed, value in own.items() if seed in shrunk}
        for name, own in values.items()
    }
    return {name: own for name, own in less.items() if own}, df / (df + df_of_seeds)


def _fit(design: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float, int]:
    """Return the least-squares coefficients, the sum of squared residuals, and the rank."""
    found, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    return found, float(((y - design @ found) ** 2).sum()), int(rank)
