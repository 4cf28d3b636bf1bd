"""Against scipy, hand-computed values, and simulated ablations whose truth is known."""

import math
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from tacoskip.ablation.statistics import (
    BETTER,
    CANNOT_TELL,
    WORSE,
    analyse,
    holm,
    pooled_spread,
    residual_spread,
    summarize,
    wide_variants,
)


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values, 1))


def simulated(
    random: np.random.Generator, variants: int, seeds: int, effect: float = 0.0
) -> dict[str, dict[int, float]]:
    """Draw an ablation whose seeds move all variants together; `v1` alone has an effect."""
    values = random.normal(5, 1, size=seeds) + random.normal(0, 1, size=(variants, seeds))
    values[1] += effect
    return {f"v{index}": by_seed(*row) for index, row in enumerate(values)}


def test_intervals_equal_scipy() -> None:
    values = [5.1, 4.7, 5.6, 5.0]
    found = summarize(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.n, found.mean) == (4, pytest.approx(5.1))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_paired_differences_equal_scipy() -> None:
    a, b = [5.1, 4.7, 5.6, 5.0], [4.9, 4.0, 5.2, 4.9]
    found = analyse({"base": by_seed(*a), "other": by_seed(*b)}, "base", -1).differences["other"]
    test = stats.ttest_rel(b, a)
    interval = test.confidence_interval(0.95)
    assert found.p == found.p_holm == pytest.approx(test.pvalue)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_seeds_are_paired_by_number() -> None:
    values = {"base": {1: 1.0, 2: 2.0, 3: 3.0}, "other": {3: 3.5, 2: 2.25, 7: 100.0}}
    found = analyse(values, "base", 1).differences["other"]
    assert (found.n, found.mean) == (2, 0.375)


def test_holm_equals_hand_computation() -> None:
    # sorted .005 .01 .03 .04, times 4 3 2 1, and never below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_noise_floor_equals_hand_computation() -> None:
    noise = pooled_spread([[1, 2, 3], [2, 4, 6], [9]])  # variances 1 and 4; one value has no spread
    assert noise is not None
    assert (noise.df, noise.sd) == (4, pytest.approx(math.sqrt(2.5)))
    assert noise.half_width(3) == pytest.approx(2.776445 * math.sqrt(2.5) * math.sqrt(2 / 3))
    assert pooled_spread([[1], [2]]) is None


def test_noise_floor_covers_95_percent_of_null_differences() -> None:
    random, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        noise = pooled_spread(random.normal(size=(4, 3)).tolist())
        assert noise is not None
        a, b = random.normal(size=(2, 3)).mean(axis=1)
        inside += abs(a - b) <= noise.half_width(3)
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)


def test_residual_spread_equals_two_way_anova() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3))
    table = {f"v{index}": by_seed(*row) for index, row in enumerate(values)}
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    found = residual_spread(table)
    assert found is not None
    assert (found.df, found.sd) == (6, pytest.approx(math.sqrt((rest**2).sum() / 6)))
    del table["v2"][3]
    holed = residual_spread(table)
    assert holed is not None
    assert holed.df == 5


@pytest.mark.parametrize(("variants", "seeds"), [(3, 2), (6, 3), (6, 5), (25, 3)])
def test_false_verdicts_are_rare_without_a_difference(variants: int, seeds: int) -> None:
    random = np.random.default_rng(1)
    false = sum(
        any(
            one.verdict != CANNOT_TELL
            for one in analyse(simulated(random, variants, seeds), "v0", 1).differences.values()
        )
        for _ in range(400)
    )
    assert false / 400 <= 0.05


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("effect", [12.0, -12.0])
def test_large_difference_gets_a_verdict(direction: int, effect: float) -> None:
    random = np.random.default_rng(2)
    expected = BETTER if effect * direction > 0 else WORSE
    for _ in range(20):
        found = analyse(simulated(random, 6, 5, effect), "v0", direction).differences
        assert found["v1"].verdict == expected
        assert found["v2"].verdict == CANNOT_TELL


def test_difference_within_noise_floor_has_no_verdict() -> None:
    values = {"base": by_seed(1, 5, 9), "other": by_seed(1.100, 5.101, 9.102)}
    found = analyse(values, "base", 1).differences["other"]
    assert found.p_holm is not None
    assert found.p_holm < 0.05
    assert (found.verdict, found.reason) == (CANNOT_TELL, "within the noise floor")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (by_seed(1.0, 2.0, 4.0), "no difference"),
        (by_seed(1.1, 2.1, 4.1), "the same difference in every seed: no test"),
        ({1: 9.0}, "one seed shows no spread"),
        ({7: 9.0, 8: 9.5}, "no seed in common with base"),
        (by_seed(1.0, 2.5, 4.2), "p = 0.25 after Holm's correction"),
    ],
)
def test_cannot_tell_has_a_reason(other: dict[int, float], reason: str) -> None:
    found = analyse({"base": by_seed(1.0, 2.0, 4.0), "other": other}, "base", 1)
    assert found.differences["other"].verdict == CANNOT_TELL
    assert found.differences["other"].reason == reason
    numbers = asdict(found.differences["other"]).values()
    assert all(math.isfinite(one) for one in numbers if isinstance(one, float))


def test_equal_values_have_no_interval_and_no_verdict() -> None:
    still = by_seed(0.0, 0.0, 0.0)
    found = analyse({"base": still, "same": still, "other": by_seed(0.1, 0.1, 0.1)}, "base", -1)
    assert found.summaries["base"].sd == 0.0
    assert found.summaries["base"].low is None
    assert {one.verdict for one in found.differences.values()} == {CANNOT_TELL}
    assert {one.p for one in found.differences.values()} == {None}


def test_unknown_direction_has_a_difference_but_no_verdict() -> None:
    values = {"base": by_seed(1, 2, 3), "other": by_seed(21, 22.1, 23)}
    found = analyse(values, "base", 0).differences["other"]
    assert found.mean == pytest.approx(20.03, abs=0.01)
    assert found.reason == "which way is better is not known"


def test_aa_variant_is_compared_with_its_block() -> None:
    values = {
        "base": by_seed(1, 2, 3),
        "other": by_seed(5, 6, 8),
        "other@aa": {4: 5.5, 5: 6.0, 6: 8.5},
        "lost@aa": by_seed(1, 2, 3),
    }
    found = analyse(values, "base", 1).differences
    assert found["other@aa"].reference == "other"
    assert (found["other@aa"].n, found["other@aa"].mean) == (3, pytest.approx(1 / 3))
    assert found["other@aa"].p != found["other@aa"].p_paired
    assert "lost@aa" not in found


def test_variant_with_far_wider_spread_is_an_outlier() -> None:
    random = np.random.default_rng(3)
    values = simulated(random, 6, 5)
    assert wide_variants(values) == []
    before = analyse(values, "v0", 1)
    values["wild"] = by_seed(*random.normal(0, 30, size=5))
    values["wilder"] = by_seed(*random.normal(0, 300, size=5))
    after = analyse(values, "v0", 1)
    assert after.errors.outliers == ["wilder", "wild"]
    assert after.errors.noise == before.errors.noise
    assert after.differences["v1"].p == pytest.approx(before.differences["v1"].p)
    wild = after.differences["wild"]
    assert wild.p == wild.p_paired
