"""Compare the runs of a folder: each variant with the baseline, in every figure and in cost."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from tacoskip.ablation.collect import Run, collect
from tacoskip.ablation.plan import DONE, LADDER, PLANNED
from tacoskip.ablation.power import LEVEL, detectable
from tacoskip.ablation.statistics import AA, CANNOT_TELL, SAME, Analysis, analyse
from tacoskip.messages import nearest

# Which way a figure is better: 1 higher, -1 lower.
DIRECTIONS = {
    **dict.fromkeys(("alignment", "frames_per_second"), 1),
    **dict.fromkeys(("mcd_db", "f0_rmse_cents", "stop_failures", "loss", "cer_by_asr"), -1),
    **dict.fromkeys(("cer", "wer", "rtf", "latency_ms", "peak_memory_mb"), -1),
    **dict.fromkeys(LADDER, -1),
}

# The main figure is the first of these that was measured, unless the plan or the user names one.
MAIN = ("mcd_db", "cer", "wer", "loss")


@dataclass(frozen=True)
class Variant:
    """One variant. seeds: of its finished runs; planned: the number of all its runs.

    cost: means over its runs. parameters_percent: by how much they exceed the baseline's, in %.
    """

    name: str
    seeds: list[int]
    planned: int
    cost: dict[str, float]
    parameters_percent: float | None


@dataclass(frozen=True)
class Comparison:
    """The runs of a folder, compared.

    figures: the main one first. variants: the best in it first. level: the family-wise error of
    each figure. analyses: by figure. constants: figures that are the same in all runs. check:
    whether removing the stack hurts, in words, "" where that was not asked for; valid: it does.
    """

    folder: Path
    date: str
    recipe: str
    overrides: list[str]
    baseline: str
    level: float
    figures: list[str]
    variants: list[Variant]
    analyses: dict[str, Analysis]
    runs: list[Run]
    warnings: list[str]
    constants: dict[str, float]
    check: str = ""
    valid: bool = True

    @property
    def main(self) -> str:
        """The figure that variants are sorted by, "" when no run has any."""
        return self.figures[0] if self.figures else ""

    @property
    def unfinished(self) -> list[Run]:
        """Runs that do not count, each with its reason in `error`."""
        return [run for run in self.runs if run.state != DONE]

    @property
    def left_out(self) -> list[str]:
        """A line for each run that failed, and one with the number of those not ended."""
        planned = [run for run in self.unfinished if run.error == PLANNED]
        lines = [f"{run.name}: {run.error}" for run in self.unfinished if run not in planned]
        return lines + [f"runs that have not ended: {len(planned)}"] * bool(planned)

    def finished(self, variant: str) -> list[Run]:
        """Return the finished runs of a variant, by seed."""
        runs = [run for run in self.runs if run.state == DONE and run.variant == variant]
        return sorted(runs, key=lambda run: run.seed)

    def text(self, figure: str, value: float | None, sign: str = "") -> str:
        """Write a value of a figure to two digits of its spread; "-" for None."""
        sd = self.analyses[figure].sd
        decimals = 1 - math.floor(math.log10(sd)) if sd else 3
        return "-" if value is None else f"{value:{sign}z.{min(max(decimals, 0), 6)}f}"

    def precision(self, figure: str) -> str:
        """Say how far runs of one variant spread, and which difference so many seeds find."""
        analysis = self.analyses[figure]
        seeds = [len(one.seeds) for one in self.variants if one.name in analysis.differences]
        if not analysis.sd or max(seeds, default=0) < 2:
            return f"{figure}: no spread between runs is known, it needs two seeds that differ"
        found = analysis.sd * detectable(max(seeds), len(seeds), self.level)
        margin = f"; margin {self.text(figure, analysis.margin)}" if analysis.margin else ""
        margin += "; what runs of a seed share is subtracted" if analysis.paired else ""
        return (
            f"{figure}: sd of a variant {self.text(figure, analysis.sd)}; {max(seeds)} seeds find "
            f"a difference of {self.text(figure, found)} with power 0.8{margin}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values; None is what is not known."""
        own = "date recipe overrides baseline level warnings constants check valid".split()
        of_run = "name variant seed state error figures cost steps minutes".split()
        return {
            "folder": str(self.folder),
            **{name: getattr(self, name) for name in own},
            "main_figure": self.main,
            "figures": {name: asdict(one) for name, one in self.analyses.items()},
            "variants": [asdict(one) for one in self.variants],
            "runs": [{name: getattr(run, name) for name in of_run} for run in self.runs],
        }


def compare(folder: Path, baseline: str | None = None, figure: str | None = None) -> Comparison:
    """Compare the runs of a folder: those of `tacoskip ablate`, or run folders side by side.

    Args:
        folder: the folder of the runs.
        baseline: a variant; by default the plan's, else highway, else the first.
        figure: what variants are sorted by.

    Raises:
        ValueError: there are no runs, runs of several recipes, no such baseline or figure.
    """
    plan, runs = collect(folder)
    done = [run for run in runs if run.state == DONE]
    names = list(dict.fromkeys(run.variant for run in runs if run.variant))
    measured = list(dict.fromkeys(name for run in done for name in run.figures))
    baseline = _select("baseline", baseline, [plan.baseline, "highway"], names)
    main = _select("figure", figure, [plan.figure, *MAIN], measured)
    constants = _constants(done, set(measured) - {main})
    figures = sorted((name for name in measured if name not in constants), key=main.__ne__)
    level = LEVEL / plan.looks
    analyses = {name: _analysis(name, runs, baseline, plan.margin, level) for name in figures}
    reference = _mean_cost([run for run in done if run.variant == baseline]).get("parameters")
    variants = [_variant(name, runs, reference) for name in names]

    def rank(variant: Variant) -> tuple[bool, float]:
        summary = analyses[main].summaries.get(variant.name) if main else None
        if summary is None or summary.mean is None:
            return True, 0.0
        return False, -DIRECTIONS.get(main, 1) * summary.mean

    variants.sort(key=rank)
    return Comparison(
        folder=folder,
        date=date.today().isoformat(),
        recipe=plan.recipe,
        overrides=plan.overrides,
        baseline=baseline,
        level=level,
        figures=figures,
        variants=variants,
        analyses=analyses,
        runs=runs,
        constants=constants,
        check=plan.check,
        valid=plan.valid,
        warnings=[
            *([] if plan.valid else [plan.check]),
            *(f"left out: {name}: {why}" for name, why in plan.refused.items()),
            *_warnings(variants, baseline, done),
            *(line for k, one in analyses.items() for line in _figure_warnings(k, one, variants)),
        ],
    )


def stack_matters(folder: Path, baseline: str, removed: str) -> tuple[bool, str]:
    """Return, in words, whether the baseline is worse beyond the margin without its stack.

    removed: the variant without it. The whole interval of this one comparison must lie beyond the
    margin.
    """
    plan, runs = collect(folder)
    analysis = _analysis(plan.figure, runs, baseline, plan.margin, LEVEL, removed)
    one = analysis.differences.get(removed)
    if one is None or one.low is None or one.mean is None or one.high is None:
        return False, "whether the stack matters is not known: it needs two seeds that differ"
    interval = f"{one.mean:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
    text = f"{baseline} without its stack: {plan.figure} {interval}, margin {analysis.margin:.4f}: "
    if one.low > analysis.margin:
        return True, text + "removing the stack hurts beyond the margin"
    return False, text + "this budget does not test blocks; train longer or on a harder task"


def _analysis(
    figure: str, runs: list[Run], baseline: str, margin: float, level: float, only: str = ""
) -> Analysis:
    """Analyse one figure of the finished runs."""
    values: dict[str, dict[int, float]] = {}
    clips: dict[str, list[list[float]]] = {}
    for run in runs:
        if run.state == DONE and figure in run.figures:
            values.setdefault(run.variant, {})[run.seed] = run.figures[figure]
            clips.setdefault(run.variant, []).append(run.clips.get(figure, []))
    diverged = Counter(run.variant for run in runs if run.diverged)
    direction = DIRECTIONS.get(figure, 0)
    whole = {
        name: np.array(rows)  # (runs, clips), where all runs have them
        for name, rows in clips.items()
        if rows[0] and len({len(row) for row in rows}) == 1
    }
    return analyse(values, baseline, direction, margin, diverged, level, whole, only)


def _constants(done: list[Run], names: Iterable[str]) -> dict[str, float]:
    """Return the figures that have one value in all of several runs."""
    found = {name: {run.figures.get(name) for run in done} for name in names}
    return {
        name: value
        for name, values in sorted(found.items())
        if len(done) > 1 and len(values) == 1 and (value := next(iter(values))) is not None
    }


def _select(what: str, asked: str | None, preferred: Iterable[str], known: list[str]) -> str:
    """Return what was asked for, else the first preferred name that is known, else the first."""
    if asked is not None and asked not in known:
        names = ", ".join(known) or "none"
        raise ValueError(f"no {what} '{asked}'{nearest(asked, known)} (there are: {names})")
    return asked or next((name for name in [*preferred, *known] if name in known), "")


def _variant(name: str, runs: list[Run], reference: float | None) -> Variant:
    own = [run for run in runs if run.variant == name]
    done = [run for run in own if run.state == DONE]
    cost = _mean_cost(done)
    size = cost.get("parameters")
    percent = 100 * (size / reference - 1) if size is not None and reference else None
    return Variant(name, sorted(run.seed for run in done), len(own), cost, percent)


def _mean_cost(runs: list[Run]) -> dict[str, float]:
    names = dict.fromkeys(name for run in runs for name in run.cost)
    return {name: fmean(run.cost[name] for run in runs if name in run.cost) for name in names}


def _warnings(variants: list[Variant], baseline: str, done: list[Run]) -> Iterator[str]:
    """Yield what a reader must know about the runs before believing a verdict."""
    for variant in variants:
        if variant.name == baseline and not variant.seeds:
            yield f"the baseline {baseline} has no finished run: nothing can be compared"
        elif len(variant.seeds) < variant.planned:
            yield f"{variant.name} has {len(variant.seeds)} finished runs of {variant.planned}"
    if max((len(variant.seeds) for variant in variants), default=0) == 1:
        yield "one seed per variant: a difference may be chance"
    steps = {run.steps for run in done if run.steps is not None}
    if len(steps) > 1:
        yield f"runs end at different steps, {min(steps):.0f} to {max(steps):.0f}"


def _figure_warnings(figure: str, analysis: Analysis, variants: list[Variant]) -> Iterator[str]:
    for name, difference in analysis.differences.items():
        if name.endswith(AA) and difference.verdict not in (SAME, CANNOT_TELL):
            yield (
                f"A/A check failed: {name} is {difference.verdict} in {figure}, although it is the "
                f"same block as {difference.reference}"
            )
    for variant in variants:
        summary = analysis.summaries.get(variant.name)
        missing = len(variant.seeds) - (summary.n if summary else 0)
        if missing:
            yield f"{variant.name}: {figure} is missing or not finite in {missing} runs"
