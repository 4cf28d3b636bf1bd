"""Finding the runs of a folder, and reading what each measured and cost.

FOLDER/ablation.json     what `tacoskip ablate` set out to do, and how each run ended
FOLDER/*/result.json     what it measured of a run
FOLDER/*/config.yaml     without these two: run folders of `tacoskip train`, put side by side
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
from tacoskip.ablation.plan import RESULT

DONE, FAILED, UNFINISHED = "done", "failed", "unfinished"

# Where run folders are looked for: here, below, and in VARIANT/SEED. Links are followed.
DEPTHS = ("", "*/", "*/*/")

# A variant of run folders side by side is named for at most so many settings.
NAMED_SETTINGS = 3

# Neither NaN nor infinite, and so that sums of squares are finite as well.
TOO_LARGE = 1e100

# Settings that say where, how watchfully or under which name a run learns, not what it learns.
INCIDENTAL = {
    *("run", "seed", "block", "data.root", "data.dir", "data.workers"),
    *("train.device", "train.threads", "train.keep", "train.checkpoint_minutes"),
    *("train.log_every", "train.evaluate_every", "train.sentences", "train.select"),
}


@dataclass
class Run:
    """One run: what it measured and cost, or why it has nothing to say.

    name: its folder, seen from the folder that is compared. state: done | failed | unfinished;
    error: one line, empty when done. figures and cost: finite values by name.
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


def collect(folder: Path) -> tuple[dict[str, Any], list[Run]]:
    """Return what ablation.json says (empty where there is none) and the runs of a folder.

    A run that is broken or has not ended is among them, with the reason. Raises ValueError when
    there is no run at all, ablation.json cannot be read, or the runs are of several recipes.
    """
    plan_file = folder / "ablation.json"
    plan = _read_json(plan_file) if plan_file.is_file() else {}
    entries = plan.get("runs", [])
    if plan and not (isinstance(entries, list) and all(isinstance(one, dict) for one in entries)):
        raise ValueError(f"{plan_file}: expected a list of objects for 'runs'")
    if plan:
        runs = [_listed(folder, entry) for entry in entries]
    else:
        found = sorted(path for depth in DEPTHS for path in folder.glob(f"{depth}config.yaml"))
        runs = [Run(str(path.parent.relative_to(folder)), path.parent) for path in found]
    if not runs:
        raise ValueError(
            f"no runs in '{folder}': expected an ablation.json, or run folders with a config.yaml"
        )
    for run in runs:
        if run.state == DONE:
            _read(run, listed=bool(plan))
    if not plan:
        _name_variants([run for run in runs if run.config])
    _refuse_mixture(folder, runs)
    _set_twins_aside(runs)
    return plan, runs


def differing(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the dotted names of the settings in which configs differ, incidental ones left out."""
    flat = [flatten(config) for config in configs]
    names = {name: None for one in flat for name in one if name not in INCIDENTAL}
    return [name for name in names if len({repr(one.get(name)) for one in flat}) > 1]


def _listed(folder: Path, entry: dict[str, Any]) -> Run:
    name, state = str(entry.get("run", "")), entry.get("state")
    run = Run(name, folder / name, str(entry.get("variant", "")), _whole(entry.get("seed")) or 0)
    if not run.folder.resolve().is_relative_to(folder.resolve()):
        run.state, run.error = FAILED, "outside the folder that is compared"
    elif state != DONE:
        run.state = FAILED if state == FAILED else UNFINISHED
        run.error = " ".join(str(entry.get("error") or state or "no state").split())
    return run


def _read(run: Run, listed: bool) -> None:
    """Read a run's files; what is wrong with them becomes its state and error."""
    try:
        if (run.folder / "config.yaml").is_file():
            run.config = _read_config(run.folder / "config.yaml")
        if (run.folder / RESULT).is_file():
            _read_result(run)
        elif listed:
            raise ValueError(f"no {RESULT}")
        else:
            _read_training(run)
        if run.state == DONE and not run.figures:
            raise ValueError("no finite figure of validation")
    except (OSError, ValueError, OverflowError) as error:
        run.state, run.error = FAILED, " ".join(str(error).split())


def _read_result(run: Run) -> None:
    path = run.folder / RESULT
    result = _read_json(path)
    run.variant = str(result.get("variant", run.variant))
    run.seed = _whole(result.get("seed", run.seed)) or 0
    run.figures = _numbers(result.get("figures"), f"{path.name}: figures")
    run.cost = _numbers(result.get("cost", {}), f"{path.name}: cost")
    run.steps = _whole(result.get("steps"))
    run.minutes = _numbers(result, path.name).get("minutes")


def _read_training(run: Run) -> None:
    """Read a run that `tacoskip train` left: the last validation, and the parameters."""
    run.seed = _whole(run.config.get("seed", 0)) or 0
    environment = run.folder / "environment.json"
    if environment.is_file():
        cost = {"parameters": _read_json(environment).get("parameters")}
        run.cost = _numbers(cost, environment.name)
    run.figures = _numbers(run.events.last("validation"), "validation")
    run.steps = max((max(p) for p in run.events.scalars.values() if p), default=0)
    settings = flatten(run.config)
    wanted = _whole(settings.get("train.max_steps")) or 0
    if run.steps < wanted and not settings.get("train.max_minutes"):
        run.state, run.error = UNFINISHED, f"stopped at step {run.steps} of {wanted}"


def _name_variants(runs: list[Run]) -> None:
    """Name each run for its block, and for the settings in which runs of that block differ.

    Where these are too many to read, the folder of the first run with the same settings names them.
    """
    blocks = defaultdict[str, list[Run]](list)
    for run in runs:
        if not run.variant:
            blocks[str(run.config.get("block", "highway"))].append(run)
    for block, group in blocks.items():
        names = differing([run.config for run in group])
        first: dict[str, str] = {}
        for run in group:
            settings = flatten(run.config)
            own = " ".join(f"{name}={settings.get(name, '-')}" for name in names)
            folder = first.setdefault(own, run.name)
            detail = own if len(names) <= NAMED_SETTINGS else f"({folder})"
            run.variant = f"{block} {detail}".rstrip()


def _refuse_mixture(folder: Path, runs: list[Run]) -> None:
    recipes = sorted({str(run.config.get("recipe", "?")) for run in runs if run.config})
    if len(recipes) > 1:
        raise ValueError(
            f"expected runs of one recipe in '{folder}', got {', '.join(recipes)}; "
            "put the runs to compare into a folder of their own"
        )


def _set_twins_aside(runs: list[Run]) -> None:
    """Keep one run of each variant and seed: counting a copy twice would feign certainty."""
    first: dict[tuple[str, int], str] = {}
    for run in runs:
        if run.state != DONE:
            continue
        twin = first.setdefault((run.variant, run.seed), run.name)
        if twin != run.name:
            run.state, run.error = FAILED, f"the same variant and seed as {twin}: left out"


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name}: expected an object, got {type(value).__name__}")
    return value


def _read_config(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        raise ValueError(f"{path.name}: not yaml") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name}: expected lines of 'key: value'")
    return value


def _numbers(values: object, what: str) -> dict[str, float]:
    if not isinstance(values, dict):
        raise ValueError(f"{what}: expected numbers by name, got {type(values).__name__}")
    numbers = {str(k): float(v) for k, v in values.items() if isinstance(v, int | float)}
    return {name: value for name, value in numbers.items() if abs(value) < TOO_LARGE}


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else None
