"""Against scipy, hand-computed values, and simulated ablations whose truth is known.

`benchmarks/ablation_statistics.py` measures error rates and power in full.
"""

import math
import re

import numpy as np
import pytest
from scipy import stats

from tacoskip.ablation.intervals import Summary, moderated, simultaneous, summarize
from tacoskip.ablation.power import baseline_seeds, detectable, seeds_needed
from tacoskip.ablation.statistics import (
    BETTER,
    CANNOT_TELL,
    SAME,
    UNSTABLE,
    WORSE,
    Difference,
    analyse,
)


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values, 1))


def simulated(
    random: np.random.Generator, variants: int, seeds: int, effect: float = 0.0
) -> dict[str, dict[int, float]]:
    """Draw an ablation; `v1` alone has an effect."""
    values = random.normal(50, 1, size=(variants, seeds))
    values[1] += effect
    return {f"v{index}": by_seed(*row) for index, row in enumerate(values)}


def one(**values: dict[int, float]) -> Difference:
    return analyse(values, "base", -1).differences["other"]


def test_summary_equals_numpy() -> None:
    values = [5.1, 4.7, 5.6, 5.0]
    assert summarize(values) == Summary(
        4, pytest.approx(5.1), pytest.approx(np.std(values, ddof=1))
    )
    assert summarize([5.0]) == Summary(1, 5.0)
    assert summarize([0.1 + 0.2, 0.3]).sd == 0.0


def test_equal_spreads_and_many_seeds_give_dunnetts_intervals() -> None:
    groups = np.random.default_rng(0).normal(size=(7, 40)) + np.arange(7)[:, None] / 4
    groups = (groups - groups.mean(1, keepdims=True)) / groups.std(1, keepdims=True, ddof=1)
    test = stats.dunnett(*groups[1:], control=groups[0], random_state=0)
    interval = test.confidence_interval(0.95)
    summaries = {f"v{i}": summarize(list(group)) for i, group in enumerate(groups)}
    found = simultaneous(summaries, {f"v{i}": "v0" for i in range(1, 7)})
    assert [one.low for one in found.values()] == pytest.approx(list(interval.low), rel=0.05)
    assert [one.high for one in found.values()] == pytest.approx(list(interval.high), rel=0.05)
    assert [one.sd for one in found.values()] == pytest.approx([1.0] * 6, rel=0.05)


def test_variances_are_moderated_towards_the_root_of_their_mean_square() -> None:
    df = np.full(3, 2.0)
    found, of_found = moderated(np.array([1.0, 1.0, 4.0]), df)
    assert found == pytest.approx((12 * math.sqrt(18 / 3) + 2 * np.array([1, 1, 4])) / 14)
    assert list(of_found) == [6, 6, 6]  # no more than there are in all


@pytest.mark.parametrize(("wide", "counted"), [(20.0, 3.5**2), (40.0, None)])
def test_wide_variant_keeps_its_variance(wide: float, counted: float | None) -> None:
    squares, df = np.array([1.0, 1.0, 1.0, 1.0, wide]), np.full(5, 2.0)
    found, of_found = moderated(squares, df)
    common = math.sqrt((4 + counted**2) / 5) if counted else 1.0
    assert list(found) == pytest.approx([*[(12 * common + 2) / 14] * 4, wide])
    assert of_found[-1] == 2
    assert list(moderated(squares, np.ones(5))[1]) == [5] * 5  # of two runs, chance makes it wide


def test_p_is_below_the_level_exactly_where_the_interval_excludes_zero() -> None:
    random = np.random.default_rng(1)
    for effect in (0.0, 1.0, 2.0, 3.0):
        for _ in range(10):
            values = simulated(random, 5, 4, effect)
            for found in analyse(values, "v0", 1, level=0.05 / 3).differences.values():
                assert found.p is not None and found.low is not None and found.high is not None
                assert (found.p < 0.05 / 3) == (found.low > 0 or found.high < 0)
                if found.verdict in (BETTER, WORSE):
                    assert found.low > 0 or found.high < 0


@pytest.mark.parametrize("wide", [1.0, 2.0])
def test_false_verdicts_are_rare(wide: float) -> None:
    random, false, missed = np.random.default_rng(1), 0, 0
    for _ in range(400):
        values = simulated(random, 6, 3)
        sds = random.choice([1.0, wide], 6)
        values = {
            name: {k: 50 + sd * (y - 50) for k, y in own.items()}
            for (name, own), sd in zip(values.items(), sds, strict=True)
        }
        found = analyse(values, "v0", 1).differences.values()
        false += any(one.verdict in (BETTER, WORSE) for one in found)
        missed += any(not (one.low or 0) <= 0 <= (one.high or 0) for one in found)
    assert false / 400 <= 0.08
    assert missed / 400 <= 0.08


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("effect", [12.0, -12.0])
def test_large_difference_gets_a_verdict(direction: int, effect: float) -> None:
    random = np.random.default_rng(2)
    expected = BETTER if effect * direction > 0 else WORSE
    for _ in range(20):
        found = analyse(simulated(random, 6, 5, effect), "v0", direction).differences
        assert found["v1"].verdict == expected
        assert found["v1"].superiority == (1.0 if expected == BETTER else 0.0)


def test_interval_within_the_margin_is_the_same() -> None:
    values = {"base": by_seed(1, 1.001, 1.002), "other": by_seed(1.003, 1.002, 1.001)}
    found = analyse(values, "base", -1, margin_percent=2)
    assert found.margin == pytest.approx(0.02, rel=0.01)
    assert found.differences["other"].verdict == SAME
    assert analyse(values, "base", -1, 0.01).differences["other"].verdict == CANNOT_TELL


@pytest.mark.parametrize("spread", [0.001, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_variant_that_never_trains_is_worse_or_unstable(spread: float, seeds: int) -> None:
    random = np.random.default_rng(3)
    for _ in range(5):
        values = simulated(random, 9, seeds)
        values = {name: {k: y / 50 for k, y in own.items()} for name, own in values.items()}
        values["v8"] = by_seed(*(5 + spread * random.normal(size=seeds)))
        found = analyse(values, "v0", -1, 2.0).differences
        assert found["v8"].verdict in (WORSE, UNSTABLE)
        assert found["v3"].verdict != UNSTABLE


def test_diverged_runs_make_a_variant_unstable() -> None:
    values = {"base": by_seed(1, 2, 3), "other": by_seed(1, 2)}
    found = analyse(values, "base", -1, diverged={"other": 1, "lost": 3}).differences
    assert (found["other"].verdict, found["other"].reason) == (UNSTABLE, "1 runs diverged")
    assert (found["lost"].verdict, found["lost"].mean) == (UNSTABLE, None)


def test_seeds_needed_reach_the_power_they_promise() -> None:
    comparisons, seeds = 4, 5
    effect = detectable(seeds, comparisons)
    assert seeds_needed(1.0, effect, comparisons) == seeds
    assert seeds_needed(1.0, 1.001 * effect, comparisons) == seeds
    assert seeds_needed(1.0, 0.999 * effect, comparisons) == seeds + 1
    random, found = np.random.default_rng(0), 0
    for _ in range(100):
        groups = random.normal(size=(comparisons + 1, baseline_seeds(seeds, comparisons)))
        values = {f"v{i}": by_seed(*(row[:seeds] if i else row)) for i, row in enumerate(groups)}
        values["v1"] = {k: y + effect for k, y in values["v1"].items()}
        found += analyse(values, "v0", -1).differences["v1"].verdict == WORSE
    assert found / 100 == pytest.approx(0.8, abs=0.12)
    assert seeds_needed(1.0, 0.0, 4) is None


def test_cannot_tell_says_how_many_seeds_are_needed() -> None:
    found = one(base=by_seed(1.0, 2.0, 4.0), other=by_seed(1.0, 2.5, 4.2))
    assert found.verdict == CANNOT_TELL
    assert re.fullmatch(r"\d+ seeds", found.needed)
    assert found.reason == f"{found.needed} needed for this difference"


def test_clips_are_a_second_source_of_error() -> None:
    values = {"base": by_seed(1.0, 1.001, 1.002), "other": by_seed(1.05, 1.051, 1.052)}
    random = np.random.default_rng(0)
    few, clip = random.normal(1, 0.5, (1, 9)), np.zeros((1, 9))
    assert analyse(values, "base", -1).differences["other"].verdict == WORSE
    same = analyse(values, "base", -1, clips={"base": few, "other": few + 0.05}).differences
    assert same["other"].verdict == WORSE and same["other"].clip_error < 1e-9
    clip += random.normal(0.05, 0.5, (1, 9))
    other = analyse(values, "base", -1, 2.0, clips={"base": few, "other": few + clip})
    one = other.differences["other"]
    assert one.clip_error == pytest.approx(np.std(clip, ddof=1) / 3)
    assert one.verdict == CANNOT_TELL and one.reason == "more clips needed for the margin"
    assert one.high is not None and one.low is not None
    assert one.high - one.low > 2 * 1.9 * one.clip_error


def test_noise_of_runs_on_clips_is_not_counted_twice() -> None:
    random = np.random.default_rng(0)
    values = {name: by_seed(*random.normal(1, 0.1, 3)) for name in ("base", "other")}
    for of_clips in (0.0, 1.0):
        means = random.normal(0, of_clips, (2, 1, 400)) + random.normal(0, 1, 400)
        runs = dict(zip(values, means + random.normal(0, 2, (2, 3, 400)), strict=True))
        error = analyse(values, "base", -1, clips=runs).differences["other"].clip_error
        assert error == pytest.approx(of_clips * math.sqrt(2 / 400), abs=0.03)


def test_a_single_planned_comparison_is_not_corrected_for_the_others() -> None:
    random = np.random.default_rng(0)
    values = {f"v{i}": by_seed(*random.normal(1, 0.1, 3)) for i in range(12)}
    all_of, single = (analyse(values, "v0", -1, only=only).differences for only in ("", "v5"))
    assert [*single] == ["v5"]
    widths = [one.high - one.low for one in (all_of["v5"], single["v5"])]  # type: ignore[operator]
    assert single["v5"].mean == pytest.approx(all_of["v5"].mean)
    assert widths[1] < 0.85 * widths[0]


def test_figure_without_spread_has_no_test() -> None:
    still = by_seed(0.0, 0.0, 0.0)
    for other in (still, by_seed(0.1, 0.1, 0.1), {1: 0.2}):
        found = one(base=still, other=other)
        assert (found.verdict, found.reason, found.p) == (CANNOT_TELL, "runs show no spread", None)


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
    assert found["other@aa"].mean == pytest.approx(1 / 3)
    assert "lost@aa" not in found


def test_wide_variant_does_not_widen_the_intervals_of_others() -> None:
    values = simulated(np.random.default_rng(3), 6, 5)
    before = analyse(values, "v0", 1).differences["v1"]
    values["wild"] = by_seed(*np.random.default_rng(0).normal(50, 300, size=5))
    after = analyse(values, "v0", 1).differences
    assert before.low is not None and after["v1"].low is not None
    assert after["v1"].low == pytest.approx(before.low, abs=0.15 * abs(before.low))
    assert after["wild"].verdict == UNSTABLE
    assert all(math.isfinite(one.p or 0) for one in after.values())
