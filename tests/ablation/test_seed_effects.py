"""What runs of a seed share is no noise of a comparison."""

import numpy as np
import pytest
from scipy import stats

from tacoskip.ablation.seed_effects import less_seed_effects
from tacoskip.ablation.statistics import CANNOT_TELL, WORSE, analyse

Table = dict[str, dict[int, float]]


def table(random: np.random.Generator, variants: int, seeds: int, of_seed: float) -> Table:
    shared = random.normal(0, of_seed, seeds)
    values = 10 + shared + random.normal(0, 0.1, (variants, seeds))
    return {f"v{i}": dict(enumerate(row.tolist())) for i, row in enumerate(values)}


def test_values_without_seed_effects_are_returned_as_they_are() -> None:
    values = table(np.random.default_rng(0), 8, 4, of_seed=0.0)
    assert less_seed_effects(values) == (values, 1.0)
    assert less_seed_effects({"v0": {0: 1.0, 1: 2.0}, "v1": {2: 3.0}})[1] == 1.0


def test_variants_that_share_no_seed_are_compared_as_they_are() -> None:
    random = np.random.default_rng(0)
    values = table(random, 4, 4, of_seed=2.0)
    assert less_seed_effects(values)[1] < 1.0
    apart = {
        name: {seed + 10 * (name > "v1"): y for seed, y in own.items()}
        for name, own in values.items()
    }
    assert less_seed_effects(apart) == (apart, 1.0)
    values["v0"] = {99: 1.0, 98: 2.0}
    assert analyse(values, "v0", -1).differences["v1"].mean == pytest.approx(
        np.mean([*values["v1"].values()]) - 1.5
    )


def test_significance_is_that_of_an_analysis_of_variance() -> None:
    """Two variants: the F test of seeds after variants is that of the paired layout."""
    random = np.random.default_rng(1)
    values = table(random, 2, 6, of_seed=2.0)
    a, b = (np.array([*own.values()]) for own in values.values())
    sums, differences = (a + b) - (a + b).mean(), (b - a) - (b - a).mean()
    f = (sums**2).sum() / (differences**2).sum()
    assert stats.f.sf(f, 5, 5) < 0.01
    less, share = less_seed_effects(values)
    assert share == 0.5
    mean = {name: np.mean([*own.values()]) for name, own in less.items()}
    assert mean["v1"] - mean["v0"] == pytest.approx((b - a).mean())
    kept = np.array([less["v0"][seed] for seed in range(6)]) - mean["v0"]
    assert np.abs(kept).max() < 0.2


def test_difference_that_seeds_hide_is_found() -> None:
    values = table(np.random.default_rng(2), 8, 4, of_seed=1.0)
    values["v1"] = {seed: value + 0.5 for seed, value in values["v1"].items()}
    values["v0"] |= {9: 12.0, 10: 8.5}  # of seeds that no other variant has
    values["v0@aa"] = {1000: 11.0, 1001: 9.5, 1002: 10.4}
    found = analyse(values, "v0", -1)
    one, again = found.differences["v1"], found.differences["v0@aa"]
    assert found.paired and one.verdict == WORSE and one.low is not None and 0 < one.low < 0.5
    assert one.mean == pytest.approx(0.5, abs=0.2)
    assert found.sd == pytest.approx(0.1, rel=0.5)
    assert again.verdict == CANNOT_TELL and again.low is not None and again.low < -0.5
    shifted = {k: {seed + 10 * int(k[1]): y for seed, y in v.items()} for k, v in values.items()}
    alone = analyse(shifted, "v0", -1)
    assert not alone.paired and alone.differences["v1"].verdict == CANNOT_TELL


def test_variant_that_never_trains_does_not_hide_seed_effects() -> None:
    values = table(np.random.default_rng(3), 6, 3, of_seed=1.0)
    values["lost"] = {0: 500.0, 1: 90.0, 2: 300.0}
    assert less_seed_effects(values)[1] == 1.0
    assert less_seed_effects(values, ["lost"])[1] < 1.0
