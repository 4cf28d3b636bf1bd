"""How far an ablation is: read from its folder, without disturbing who works on it."""

from pathlib import Path
from statistics import fmean
from typing import Any

from tacoskip.ablation.collect import collect
from tacoskip.ablation.plan import DONE, FAILED, PLANNED
from tacoskip.ablation.tables import Table
from tacoskip.files import lock_holder
from tacoskip.messages import human_duration
from tacoskip.run_folder import checkpoints

RUNNING = "running"
STATES = (DONE, RUNNING, PLANNED, FAILED)


def status(folder: Path) -> tuple[dict[str, Any], list[Table]]:
    """Return the state of an ablation as plain values, and as tables.

    holder: who works on it, "" for nobody. variants: of each, the number of runs in each state.
    running: the step of the last checkpoint, 0 before the first, of each run in progress. failed:
    the reason of each. minutes_left: of training, None before the first run is done.

    Raises ValueError where there are no runs.
    """
    _, runs = collect(folder)
    in_progress = {run.name for run in runs if run.state == PLANNED and lock_holder(run.folder)}
    counts: dict[str, dict[str, int]] = {}
    for run in runs:
        state = RUNNING if run.name in in_progress else run.state
        counts.setdefault(run.variant, dict.fromkeys(STATES, 0))[state] += 1
    minutes = [run.minutes for run in runs if run.minutes is not None]
    remain = sum(run.state == PLANNED for run in runs)
    values = {
        "folder": str(folder),
        "holder": lock_holder(folder),
        "variants": counts,
        "running": {name: _saved_step(folder / name) for name in sorted(in_progress)},
        "failed": {run.name: run.error for run in runs if run.state == FAILED},
        "minutes_left": fmean(minutes) * remain if minutes else None,
    }
    return values, _tables(values)


def _saved_step(run: Path) -> int:
    saved = checkpoints(run)
    return int(saved[-1].stem.removeprefix("step-")) if saved else 0


def _tables(values: dict[str, Any]) -> list[Table]:
    variants = values["variants"]
    total = [sum(one[state] for one in variants.values()) for state in STATES]
    rows = [[name, *map(str, one.values())] for name, one in variants.items()]
    tables = [Table(["variant", *STATES], [*rows, ["all", *map(str, total)]])]
    for what, title in (("running", "step saved"), ("failed", "why")):
        if values[what]:
            rows = [[name, str(value)] for name, value in values[what].items()]
            tables.append(Table(["run", title], rows))
    return tables


def summary(values: dict[str, Any]) -> str:
    """Say in one line who works on an ablation, and for how long still."""
    who = f"in use by {values['holder']}" if values["holder"] else "nobody works on it"
    left = values["minutes_left"]
    return f"{who}; {human_duration(60 * left)} of training remain" if left else who
