"""How often verdicts of an ablation are wrong, by simulation through its own functions.

    python benchmarks/ablation_statistics.py [--rounds 2000] [--only null,effect]

Family-wise error: share of ablations with any false better, worse or same. Coverage: share in which
all intervals hold their true difference. Power: how often a difference is found that `detectable`
promises to find in 80 % of cases, here and by scipy.stats.dunnett. Unstable: share of variants that
train and are called so. Untrained: share of untrained variants called worse or unstable.
A cell has one value for each of `--seeds`, in %.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tacoskip.ablation.power import LEVEL, baseline_seeds, detectable
from tacoskip.ablation.statistics import BETTER, SAME, UNSTABLE, WORSE, Values, analyse

SCENARIOS = {
    "null": "equal spreads, no difference",
    "effect": "one variant is worse, by just the margin",
    "heavy": "errors have a t distribution with 3 degrees of freedom",
    "unequal": "each variant's sd is 1 or 2",
    "baseline": "the baseline's sd is 2, all others' 1",
    "four": "one variant's sd is 4, all others' 1",
    "wide": "one variant's sd is 20, all others' 1",
    "shared": "runs of a seed share an error of sd 3; one variant is worse, as above",
    "missing": "each run is missing with probability 1/4",
    "diverged": "one variant never trains (loss times 5), of another one run diverges",
    "clips": "the choice of 60 clips moves each difference by sd 1",
}
ODD = {"four": 4.0, "wide": 20.0}
EFFECTS = ("effect", "shared")  # scenarios with a true difference
CENTER, FAR = 100.0, 500.0  # of trained and of untrained variants, in sds


def draw(
    scenario: str, comparisons: int, seeds: int, random: np.random.Generator
) -> tuple[dict[str, dict[int, float]], NDArray[np.float64], dict[str, int]]:
    """Return values, true differences (comparisons + 1,), and numbers of diverged runs."""
    true, sd = np.zeros(comparisons + 1), np.ones(comparisons + 1)
    if scenario in EFFECTS:
        true[1] = detectable(seeds, comparisons)
    of_seed = random.normal(0, 3 if scenario == "shared" else 0, 99)
    if scenario == "unequal":
        sd = random.choice([1.0, 2.0], comparisons + 1)
    if scenario == "baseline":
        sd[0] = 2.0
    if scenario in ODD:
        sd[1] = ODD[scenario]
    if scenario == "diverged":
        true[1], sd[1] = FAR, random.uniform(1, 200)
    values = {}
    for i in range(comparisons + 1):
        n = seeds if i else baseline_seeds(seeds, comparisons)
        noise = random.standard_t(3, n) if scenario == "heavy" else random.standard_normal(n)
        kept = random.random(n) >= (0.25 if scenario == "missing" else 0.0)
        kept[0] = True  # a variant without any run is not compared
        kept[-1] &= not (scenario == "diverged" and i == 2)
        runs = CENTER + true[i] + of_seed[:n] + sd[i] * noise
        values[f"v{i}"] = {seed: runs[seed] for seed in np.flatnonzero(kept).tolist()}
    return values, true, {"v2": 1} if scenario == "diverged" else {}


def on_clips(values: Values, random: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Return runs' values on 60 clips, (runs, clips); noise on clips is 0.6 of a run's variance."""
    clips = {}
    for name, runs in values.items():
        own = np.sqrt(0.4) * (np.array([*runs.values()]) - CENTER)[:, None] + CENTER
        clips[name] = own + random.normal(0, 6, (len(runs), 60)) + random.normal(0, 30**0.5, 60)
    return clips


def simulate(scenario: str, comparisons: int, seeds: int, rounds: int) -> dict[str, float]:
    """Return the shares of a scenario, in %."""
    random = np.random.default_rng(seeds)
    margin = detectable(seeds, comparisons) / CENTER * 100
    counts = dict.fromkeys(("error", "covered", "power", "dunnett", "unstable", "untrained"), 0.0)
    critical = 0.0
    for _ in range(rounds):
        values, true, diverged = draw(scenario, comparisons, seeds, random)
        clips = on_clips(values, random) if scenario == "clips" else {}
        for name, rows in clips.items():
            values[name] = dict(zip(values[name], rows.mean(1).tolist(), strict=True))
        found = analyse(values, "v0", -1, margin, diverged, clips=clips).differences
        truth = {f"v{i}": difference for i, difference in enumerate(true)}
        counts["error"] += any(
            one.verdict in (SAME if truth[name] else WORSE, BETTER) for name, one in found.items()
        )
        counts["covered"] += all(
            one.low <= truth[name] <= one.high
            for name, one in found.items()
            if one.low is not None and one.high is not None
        )
        odd = {*diverged, *(["v1"] if scenario in (*ODD, "diverged") else [])}
        trained = [one.verdict for name, one in found.items() if name not in odd]
        counts["unstable"] += trained.count(UNSTABLE) / len(trained)
        counts["untrained"] += found["v1"].verdict in (WORSE, UNSTABLE)
        if scenario in EFFECTS:
            counts["power"] += found["v1"].verdict == WORSE
            groups = [np.array([*own.values()]) for own in values.values()]
            critical = critical or dunnett(groups, quantile=True)
            counts["dunnett"] += dunnett(groups) > critical
    return {name: 100 * count / rounds for name, count in counts.items()}


def dunnett(groups: list[NDArray[np.float64]], quantile: bool = False) -> float:
    """Return |t| of the first variant against the baseline, or Dunnett's quantile of it."""
    sd = np.sqrt(
        sum(((one - one.mean()) ** 2).sum() for one in groups)
        / (sum(map(len, groups)) - len(groups))
    )
    error = sd * np.sqrt(1 / len(groups[0]) + 1 / len(groups[1]))
    if quantile:
        test = stats.dunnett(*groups[1:], control=groups[0], random_state=0)
        interval = test.confidence_interval(1 - LEVEL)
        return float((interval.high[0] - interval.low[0]) / 2 / error)
    return float(abs(groups[1].mean() - groups[0].mean()) / error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seeds", default="3,5,10")
    parser.add_argument("--only", default=",".join(SCENARIOS))
    options = parser.parse_args()
    print("| scenario | family-wise error | coverage | power | Dunnett's | unstable | untrained |")
    print("|---|---|---|---|---|---|---|")
    of = {"power": EFFECTS, "dunnett": EFFECTS, "untrained": ("diverged",)}  # else of all
    for scenario in options.only.split(","):
        seeds = map(int, options.seeds.split(","))
        found = [simulate(scenario, 8, count, options.rounds) for count in seeds]
        row = [SCENARIOS[scenario]]
        for name in found[0]:
            shown = scenario in of.get(name, SCENARIOS)
            row.append(", ".join(f"{one[name]:.1f}" for one in found if shown))
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
