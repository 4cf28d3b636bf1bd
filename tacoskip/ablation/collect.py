"""Find the runs of a folder, and read what each measured and cost.

FOLDER/ablation.json     the plan that `tacoskip ablate` wrote
FOLDER/*/result.json     what it measured of a run
FOLDER/*/config.yaml     without these two: run folders of `tacoskip train`, side by side
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tacoskip.ablation.events import Events, read_events
from tacoskip.ablation.plan import DONE, FAILED, PLANNED, RESULT, Plan
from tacoskip.config_checks import flatten

UNFINISHED = "unfinished"

# Folders in which run folders are searched: this one, those below, and VARIANT/SEED.
DEPTHS = ("", "*/", "*/*/")

# With more differing settings than this, a variant is named for a folder instead.
NAMED_SETTINGS = 3

# Larger values count as infinite: sums of squares must be finite.
TOO_LARGE = 1e100

# Settings that do not affect what a run learns.
INCIDENTAL = {
    *("run", "seed", "block", "data.root", "data.dir", "data.workers"),
    *("train.device", "train.threads", "train.keep", "train.checkpoint_minutes"),
    *("train.log_every", "train.evaluate_every", "train.sentences", "train.select"),
}


@dataclass
class Run:
    """One run: what it measured and cost, or why it does not count.

    name: its folder within the folder that is compared. state: done | failed | unfinished, or
    planned. error: one line, empty when done. figures, cost: finite values by name.
    """

    name: str
    folder: Path
    variant: str = ""
    seed: int = 0
    state: str = DONE
    error: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    steps: int | None = None
    minutes: float | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def events(self) -> Events:
        return read_events(self.folder)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The config by dotted names."""
        return dict(flatten(self.config, {}))


def collect(folder: Path) -> tuple[Plan | None, list[Run]]:
    """Return the plan of a folder (None without ablation.json) and its runs.

    A run that is broken or has not ended is among them, with the reason. Raises ValueError when
    there is no run, ablation.json cannot be read, or the runs are of several recipes.
    """
    plan = Plan.load(folder)
    if plan:
        runs = [
            Run(run.run, folder / run.run, run.variant, run.seed, run.state, run.error)
            for run in plan.runs
        ]
    else:
        found = sorted(
            path.parent for depth in DEPTHS for path in folder.glob(f"{depth}config.yaml")
        )
        runs = [Run(str(path.relative_to(folder)), path) for path in found]
    if not runs:
        raise ValueError(
            f"no runs in '{folder}': expected an ablation.json, or run folders with a config.yaml"
        )
    for run in runs:
        if run.state == DONE:
            _read(run, planned=bool(plan))
        elif run.state != FAILED:
            run.error = run.error or PLANNED
    if not plan:
        _name_variants([run for run in runs if run.config])
    recipes = sorted({str(run.config.get("recipe", "?")) for run in runs if run.config})
    if len(recipes) > 1:
        raise ValueError(
            f"expected runs of one recipe in '{folder}', got {', '.join(recipes)}; "
            "put the runs to compare into a folder of their own"
        )
    _exclude_duplicates(runs)
    return plan, runs


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the dotted names of the settings in which runs differ, without incidental ones."""
    names = {name: None for run in runs for name in run.settings if name not in INCIDENTAL}
    return [name for name in names if len({repr(run.settings.get(name)) for run in runs}) > 1]


def _read(run: Run, planned: bool) -> None:
    """Read a run's files; what is wrong with them becomes its state and error."""
    try:
        if (run.folder / "config.yaml").is_file():
            run.config = _read_mapping(run.folder / "config.yaml")
        if (run.folder / RESULT).is_file():
            _read_result(run, _read_mapping(run.folder / RESULT))
        elif planned:
            raise ValueError(f"no {RESULT}")
        else:
            _read_training(run)
        if run.state == DONE and not run.figures:
            raise ValueError("no finite figure of validation")
    except (OSError, ValueError, OverflowError) as error:
        run.state, run.error = FAILED, " ".join(str(error).split())


def _read_result(run: Run, result: dict[str, Any]) -> None:
    run.variant = str(result.get("variant", run.variant))
    run.seed = _whole(result.get("seed", run.seed)) or 0
    run.figures = _numbers(result.get("figures"), f"{RESULT}: figures")
    run.cost = _numbers(result.get("cost", {}), f"{RESULT}: cost")
    run.steps = _whole(result.get("steps"))
    run.minutes = _numbers(result, RESULT).get("minutes")


def _read_training(run: Run) -> None:
    """Read a run that `tacoskip train` left: the last validation, and the parameters."""
    run.seed = _whole(run.config.get("seed", 0)) or 0
    environment = run.folder / "environment.json"
    if environment.is_file():
        cost = {"parameters": _read_mapping(environment).get("parameters")}
        run.cost = _numbers(cost, environment.name)
    run.figures = _numbers(run.events.last("validation"), "validation")
    run.steps = max((max(points) for points in run.events.scalars.values()), default=0)
    target = _whole(run.settings.get("train.max_steps")) or 0
    if run.steps < target and not run.settings.get("train.max_minutes"):
        run.state, run.error = UNFINISHED, f"stopped at step {run.steps} of {target}"


def _name_variants(runs: Sequence[Run]) -> None:
    """Name each run for its block and for the settings in which runs of that block differ.

    Where these are too many to read, the folder of the first run with equal settings is the name.
    """
    blocks = defaultdict[str, list[Run]](list)
    for run in runs:
        if not run.variant:
            blocks[str(run.config.get("block", "highway"))].append(run)
    for block, group in blocks.items():
        names = differing(group)
        first: dict[str, str] = {}
        for run in group:
            values = " ".join(f"{name}={run.settings.get(name, '-')}" for name in names)
            folder = first.setdefault(values, run.name)
            run.variant = f"{block} {values if len(names) <= NAMED_SETTINGS else f'({folder})'}"
            run.variant = run.variant.rstrip()


def _exclude_duplicates(runs: Sequence[Run]) -> None:
    """Keep one run of each variant and seed: a copy is no further evidence."""
    first: dict[tuple[str, int], str] = {}
    for run in runs:
        if run.state == DONE:
            original = first.setdefault((run.variant, run.seed), run.name)
            if original != run.name:
                run.state, run.error = FAILED, f"same variant and seed as {original}: left out"


def _read_mapping(path: Path) -> dict[str, Any]:
    """Read an object from a JSON or YAML file; raises ValueError in one line."""
    text = path.read_text(encoding="utf-8")
    try:
        value = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path.name}: not {path.suffix[1:]}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name}: expected names with values, got {type(value).__name__}")
    return value


def _numbers(values: object, what: str) -> dict[str, float]:
    """Return the finite numbers of a mapping."""
    if not isinstance(values, dict):
        raise ValueError(f"{what}: expected numbers by name, got {type(values).__name__}")
    numbers = {str(k): float(v) for k, v in values.items() if isinstance(v, int | float)}
    return {name: value for name, value in numbers.items() if abs(value) < TOO_LARGE}


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else None
