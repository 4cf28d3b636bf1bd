"""A folder of runs, compared: each variant with the baseline, figure by figure, and what it costs.

The numbers are made in `statistics`, the runs found in `collect`; here they meet.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from tacoskip.ablation.collect import DONE, Run, collect, differing, flatten
from tacoskip.ablation.plan import PLANNED
from tacoskip.ablation.statistics import AA, CANNOT_TELL, Analysis, analyse
from tacoskip.messages import nearest

# What the figures of docs/evaluation.md want: 1 higher, -1 lower.
DIRECTIONS = {
    **dict.fromkeys(("alignment", "frames_per_second"), 1),
    **dict.fromkeys(("mcd_db", "f0_rmse_cents", "stop_failures", "loss", "cer_by_asr"), -1),
    **dict.fromkeys(("cer", "wer", "rtf", "latency_ms", "peak_memory_mb"), -1),
}

# The main figure, unless one is asked for or the ablation names one: the first of these that was
# measured.
MAIN = ("mcd_db", "cer", "wer", "loss")


@dataclass(frozen=True)
class Variant:
    """One variant. seeds: of its finished runs; planned: how many runs it has in all.

    cost: means over its runs. parameters_percent: how many more than the baseline's, in %.
    """

    name: str
    block: str
    depth: int | None
    seeds: list[int]
    planned: int
    cost: dict[str, float]
    parameters_percent: float | None


@dataclass(frozen=True)
class Comparison:
    """What a folder of runs says. figures: the main one first; variants: the best in it first.

    differing: settings in which finished runs differ, besides block and seed. analyses: by figure.
    """

    folder: Path
    date: str
    recipe: str
    overrides: list[str]
    differing: list[str]
    baseline: str
    figures: list[str]
    variants: list[Variant]
    analyses: dict[str, Analysis]
    runs: list[Run]
    warnings: list[str]

    @property
    def main(self) -> str:
        """The figure that variants are sorted by, "" when no run has any."""
        return self.figures[0] if self.figures else ""

    @property
    def most_seeds(self) -> int:
        """Finished seeds of the variant that has the most."""
        return max((len(variant.seeds) for variant in self.variants), default=0)

    @property
    def unfinished(self) -> list[Run]:
        """Runs that count for nothing, each with its reason in `error`."""
        return [run for run in self.runs if run.state != DONE]

    @property
    def left_out(self) -> list[str]:
        """Lines that say which runs do not count and why; those yet to come are only counted."""
        planned = [run for run in self.unfinished if run.error == PLANNED]
        lines = [f"{run.name}: {run.error}" for run in self.unfinished if run not in planned]
        return [*lines, f"runs that have not ended: {len(planned)}"] if planned else lines

    def finished(self, variant: str) -> list[Run]:
        """Return the finished runs of a variant, by seed."""
        runs = [run for run in self.runs if run.state == DONE and run.variant == variant]
        return sorted(runs, key=lambda run: run.seed)

    def noise_floor(self, figure: str) -> float | None:
        """Return the noise floor of a figure for the most seeds there are."""
        noise = self.analyses[figure].noise
        return noise.half_width(self.most_seeds) if noise else None

    def text(self, figure: str, value: float | None, sign: str = "") -> str:
        """Write a value of a figure, to two digits of its noise; "-" for None."""
        noise = self.analyses[figure].noise
        decimals = 1 - math.floor(math.log10(noise.sd)) if noise and noise.sd > 0 else 3
        return "-" if value is None else f"{value:{sign}z.{min(max(decimals, 0), 6)}f}"

    def to_json(self) -> dict[str, Any]:
        """Return everything but the curves as plain JSON values; None is what is not known."""
        variants = []
        for variant in self.variants:
            figures = {}
            for figure, analysis in self.analyses.items():
                if variant.name in analysis.summaries:
                    found = analysis.differences.get(variant.name)
                    figures[figure] = asdict(analysis.summaries[variant.name])
                    figures[figure]["difference"] = asdict(found) if found else None
            variants.append(asdict(variant) | {"figures": figures})
        own = ("name", "variant", "seed", "state", "error", "figures", "cost", "steps", "minutes")
        noise = {
            name: asdict(one.noise) | {"half_width": self.noise_floor(name)}
            for name, one in self.analyses.items()
            if one.noise
        }
        return {
            "folder": str(self.folder),
            "date": self.date,
            "recipe": self.recipe,
            "overrides": self.overrides,
            "differing": self.differing,
            "baseline": self.baseline,
            "main_figure": self.main,
            "seeds": self.most_seeds,
            "noise": noise,
            "variants": variants,
            "runs": [{name: getattr(run, name) for name in own} for run in self.runs],
            "warnings": self.warnings,
        }


def compare(folder: Path, baseline: str | None = None, figure: str | None = None) -> Comparison:
    """Compare the runs of a folder: what `tacoskip ablate` left, or run folders side by side.

    baseline: a variant; by default the ablation's own, else highway, else the first. figure: what
    variants are sorted by. Raises ValueError for a folder without runs or with runs of several
    recipes, and for an unknown baseline or figure.
    """
    folder = Path(folder)
    plan, runs = collect(folder)
    done = [run for run in runs if run.state == DONE]
    names = list(dict.fromkeys(run.variant for run in runs if run.variant))
    measured = list(dict.fromkeys(name for run in done for name in run.figures))
    baseline = _one_of("baseline", baseline, [str(plan.get("baseline", "")), "highway"], names)
    main = _one_of("figure", figure, [str(plan.get("figure", "")), *MAIN], measured)
    figures = sorted(measured, key=lambda name: name != main)
    analyses = {}
    for name in figures:
        values: dict[str, dict[int, float]] = {variant: {} for variant in names}
        for run in done:
            if name in run.figures:
                values[run.variant][run.seed] = run.figures[name]
        known = {variant: seeds for variant, seeds in values.items() if seeds}
        analyses[name] = analyse(known, baseline, DIRECTIONS.get(name, 0))
    costs = {name: _mean_cost([run for run in done if run.variant == name]) for name in names}
    variants = [_variant(name, runs, costs, baseline) for name in names]

    def rank(variant: Variant) -> tuple[bool, float]:
        summary = analyses[main].summaries.get(variant.name) if main else None
        if summary is None or summary.mean is None:
            return True, 0.0
        return False, -DIRECTIONS.get(main, 1) * summary.mean

    variants.sort(key=rank)
    overrides = plan.get("overrides")
    return Comparison(
        folder,
        date.today().isoformat(),
        str(plan.get("recipe") or next((run.config.get("recipe", "") for run in done), "")),
        [str(one) for one in overrides] if isinstance(overrides, list) else [],
        differing([run.config for run in done if run.config]),
        baseline,
        figures,
        variants,
        analyses,
        runs,
        _warnings(variants, baseline, analyses, done),
    )


def wanted(figure: str) -> str:
    """Say which way a figure is better."""
    words = {1: "higher is better", -1: "lower is better", 0: "no known direction"}
    return words[DIRECTIONS.get(figure, 0)]


def _one_of(what: str, asked: str | None, preferred: Iterable[str], known: list[str]) -> str:
    """Return what was asked for, else the first preferred one that is known, else the first."""
    if asked is not None:
        if asked not in known:
            names = ", ".join(known) or "none"
            raise ValueError(f"no {what} '{asked}'{nearest(asked, known)} (there are: {names})")
        return asked
    return next((name for name in [*preferred, *known] if name in known), "")


def _mean_cost(runs: list[Run]) -> dict[str, float]:
    names = dict.fromkeys(name for run in runs for name in run.cost)
    found = {name: [run.cost[name] for run in runs if name in run.cost] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}


def _variant(
    name: str, runs: list[Run], costs: dict[str, dict[str, float]], baseline: str
) -> Variant:
    own = [run for run in runs if run.variant == name]
    done = [run for run in own if run.state == DONE]
    config = next((run.config for run in done if run.config), {})
    settings = flatten(config)
    depth = settings.get("depth", settings.get("cbhg.depth"))
    size, reference = costs[name].get("parameters"), costs.get(baseline, {}).get("parameters")
    return Variant(
        name,
        str(config.get("block", name.removesuffix(AA))),
        depth if isinstance(depth, int) else None,
        sorted(run.seed for run in done),
        len(own),
        costs[name],
        100 * (size / reference - 1) if size is not None and reference else None,
    )


def _warnings(
    variants: list[Variant], baseline: str, analyses: dict[str, Analysis], done: list[Run]
) -> list[str]:
    """Return what a reader must know before believing a verdict."""
    found = []
    most = max((len(variant.seeds) for variant in variants), default=0)
    for variant in variants:
        if variant.name == baseline and not variant.seeds:
            found.append(f"the baseline {baseline} has no finished run: nothing can be compared")
        elif len(variant.seeds) < most:
            found.append(f"{variant.name} has {len(variant.seeds)} finished seeds, others {most}")
    if most == 1:
        found.append("one seed a variant: no difference can be told from chance")
    for figure, analysis in analyses.items():
        for name, difference in analysis.differences.items():
            if name.endswith(AA) and difference.verdict != CANNOT_TELL:
                found.append(
                    f"A/A check failed: {name} came out {difference.verdict} than "
                    f"{difference.reference} in {figure}, and is the same block"
                )
        for name, summary in analysis.summaries.items():
            missing = next(len(v.seeds) for v in variants if v.name == name) - summary.n
            if missing:
                found.append(f"{name}: {figure} is missing or not finite in {missing} runs")
        if analysis.restless:
            found.append(
                f"far wider spread than the rest in {figure}: {', '.join(analysis.restless)} "
                "(tested alone, and not in the noise floor)"
            )
    steps = {run.steps for run in done if run.steps is not None}
    if len(steps) > 1:
        found.append(f"runs end at different steps, {min(steps)} to {max(steps)}")
    return found
