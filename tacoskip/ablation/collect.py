"""Find the runs of a folder, and read what each measured and cost.

FOLDER/ablation.json     the plan that `tacoskip ablate` wrote
FOLDER/*/result.json     what it measured of a run
FOLDER/*/config.yaml     without these two: run folders of `tacoskip train`, side by side
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tacoskip.ablation.plan import DONE, FAILED, JSON_BYTES, PLANNED, RESULT, Plan
from tacoskip.files import open_regular, read_regular
from tacoskip.recipe_files import parse_yaml

# Folders in which run folders are searched: this one, those below, and VARIANT/SEED.
DEPTHS = ("", "*/", "*/*/")

# Larger values count as infinite: sums of squares must be finite.
TOO_LARGE = 1e100
EVENT_BYTES = 4_000_000_000


@dataclass
class Run:
    """One run: what it measured and cost, or why it does not count.

    name: its folder within the folder that is compared. state: done | failed | planned. error: one
    line, empty when done. figures, cost: finite values by name. clips: by figure, its value on each
    held-out clip, in the same order in all runs. start: how the stack was brought near the
    identity.
    """

    name: str
    folder: Path
    variant: str = ""
    seed: int = 0
    state: str = DONE
    error: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    clips: dict[str, list[float]] = field(default_factory=dict)
    start: str = ""
    steps: float | None = None
    minutes: float | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def diverged(self) -> bool:
        """Whether training ended because losses were not finite, or in such a figure."""
        return self.state == FAILED and "finite" in self.error


def collect(folder: Path) -> tuple[Plan, list[Run]]:
    """Return the plan of a folder (one without runs where it has no ablation.json) and its runs.

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
        found = (path.parent for depth in DEPTHS for path in folder.glob(f"{depth}config.yaml"))
        runs = [Run(str(path.relative_to(folder)), path) for path in sorted(found)]
    if not runs:
        raise ValueError(
            f"no runs in '{folder}': expected an ablation.json, or run folders with a config.yaml"
        )
    for run in runs:
        if run.state == DONE:
            _read(run, planned=bool(plan))
        elif run.state != FAILED:
            run.error = run.error or PLANNED
    recipes = sorted({str(run.config.get("recipe", "?")) for run in runs if run.config})
    if len(recipes) > 1:
        raise ValueError(
            f"expected runs of one recipe in '{folder}', got {', '.join(recipes)}; "
            "put the runs to compare into a folder of their own"
        )
    if plan:
        return plan, runs
    # A block names its only run; else folders do.
    blocks = {run.name: str(run.config.get("block", run.name)) for run in runs}
    counts = Counter(blocks.values())
    for run in runs:
        run.variant = run.name if counts[blocks[run.name]] > 1 else blocks[run.name]
    return Plan("".join(recipes), "highway", "", [], "none", []), runs


def _read(run: Run, planned: bool) -> None:
    """Read a run's files; what is wrong with them becomes its state and error."""
    try:
        if (run.folder / "config.yaml").is_file():
            run.config = _read_mapping(run.folder / "config.yaml")
        if planned:
            result = _read_mapping(run.folder / RESULT)
            run.figures = _numbers(result.get("figures"), f"{RESULT}: figures")
            run.cost = _numbers(result.get("cost", {}), f"{RESULT}: cost")
            run.clips = _lists(result.get("clips", {}))
            run.start = str(result.get("start", ""))
            run.steps, run.minutes = (_numbers(result, "").get(k) for k in ("steps", "minutes"))
        else:
            run.seed = int(run.config.get("seed", 0))
            run.figures, run.steps = _last_validation(run.folder)
        if not run.figures:
            raise ValueError("no finite figure of validation")
    except (OSError, ValueError, OverflowError) as error:
        run.state, run.error = FAILED, " ".join(str(error).split())


def _last_validation(run: Path) -> tuple[dict[str, float], int]:
    """Return the last validation of a training run, and its last step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for path in run.glob("*tfevents*"):  # the names that it opens
        open_regular(path, EVENT_BYTES).close()
    events = EventAccumulator(str(run)).Reload()
    tags = events.Tags()["scalars"]
    last = {tag: events.Scalars(tag)[-1] for tag in tags}
    figures = {
        tag.removeprefix("validation/"): one.value
        for tag, one in last.items()
        if tag.startswith("validation/")
    }
    steps = max((one.step for one in last.values()), default=0)
    return _numbers(figures, "validation"), steps


def _read_mapping(path: Path) -> dict[str, Any]:
    """Read an object from a JSON or YAML file; raises ValueError in one line."""
    raw = read_regular(path, JSON_BYTES)
    try:
        value = json.loads(raw) if path.suffix == ".json" else parse_yaml(raw.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: not {path.suffix[1:]}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name}: expected names with values, got {type(value).__name__}")
    return value


def _lists(values: object) -> dict[str, list[float]]:
    """Return the lists of finite numbers of a mapping."""
    if not isinstance(values, dict):
        return {}
    lists = {str(k): dict(enumerate(v)) for k, v in values.items() if isinstance(v, list)}
    return {name: [*_numbers(one, f"{RESULT}: clips").values()] for name, one in lists.items()}


def _numbers(values: object, what: str) -> dict[str, float]:
    """Return the finite numbers of a mapping."""
    if not isinstance(values, dict):
        raise ValueError(f"{what}: expected numbers by name, got {type(values).__name__}")
    numbers = {str(k): float(v) for k, v in values.items() if isinstance(v, int | float)}
    return {name: value for name, value in numbers.items() if abs(value) < TOO_LARGE}
