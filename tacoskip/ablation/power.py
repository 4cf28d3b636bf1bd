"""How many seeds an ablation needs, before the first run and for a difference in doubt."""

import math
from bisect import bisect_left as bisect

from scipy import special

LEVEL, POWER = 0.05, 0.8
MOST_SEEDS = 999


def detectable(seeds: int, comparisons: int, level: float = LEVEL) -> float:
    """Return the difference that is found with a power of 0.8, in standard deviations of a run.

    As by Dunnett's test, with half its degrees of freedom: what moderated variances cost.
    """
    df = (comparisons + 1) * (seeds - 1) / 2
    if not df:
        return math.inf
    error = math.sqrt(1 / seeds + 1 / baseline_seeds(seeds, comparisons))
    each = 1 - (1 - level) ** (1 / comparisons)
    return error * float(special.stdtrit(df, 1 - each / 2) + special.stdtrit(df, POWER))


def seeds_needed(
    sd: float, effect: float, comparisons: int, level: float = LEVEL, clip_error: float = 0.0
) -> int | None:
    """Return the seeds of a variant for a power of 0.8; None where MOST_SEEDS do not suffice, as
    where the clips' own error hides the effect.
    """
    counts = range(2, MOST_SEEDS + 1)
    each = 1 - (1 - level) ** (1 / comparisons)
    hidden = clip_error * float(special.ndtri(1 - each / 2) + special.ndtri(POWER))
    effect = math.sqrt(max(effect**2 - hidden**2, 0.0))
    enough = bisect(counts, -effect, key=lambda n: -sd * detectable(n, comparisons, level))
    return counts[enough] if enough < len(counts) else None


def baseline_seeds(seeds: int, comparisons: int) -> int:
    """Return the runs of a baseline that serve all comparisons best (Dunnett 1955)."""
    return max(seeds, round(seeds * math.sqrt(comparisons)))
