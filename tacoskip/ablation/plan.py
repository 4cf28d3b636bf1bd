"""ablation.json: what an ablation set out to do and how each run ended; what makes it resumable.

{"recipe", "baseline", "figure", "blocks", "seeds", "match", "overrides", "refused", "matched",
 "runs": [{"run", "variant", "seed", "state": "planned | done | failed", "error"}]}
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PLANNED, DONE, FAILED = "planned", "done", "failed"
FILE, RESULT = "ablation.json", "result.json"

# What must be equal for runs to stand side by side, beside the overrides.
TERMS = ("recipe", "baseline", "match")


@dataclass
class PlannedRun:
    """One run of a plan. run: its folder within the ablation's; error: why it failed, one line."""

    run: str
    variant: str
    seed: int
    state: str = PLANNED
    error: str = ""


@dataclass
class Plan:
    """All of an ablation. refused: variants that do not fit together, with the reason.

    matched: by variant, how its cost was brought to the baseline's (see
    `tacoskip.training.parameter_matching.Match`).
    """

    recipe: str
    baseline: str
    figure: str
    blocks: list[str]
    seeds: int
    match: str
    overrides: list[str]
    refused: dict[str, str] = field(default_factory=dict)
    matched: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[PlannedRun] = field(default_factory=list)

    @property
    def open(self) -> list[PlannedRun]:
        """Runs that are not done; a failed one is tried again."""
        return [run for run in self.runs if run.state != DONE]

    def save(self, folder: Path) -> None:
        """Write the plan so that a crash leaves the old or the new one, whole."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{FILE}.partial"
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        os.replace(partial, folder / FILE)

    def take_over(self, folder: Path) -> None:
        """Take what an earlier plan of this folder has done, and its runs that this one lacks.

        A run counts as done while its result can be read. Raises ValueError when the folder's runs
        were made under other terms, or its plan cannot be read.
        """
        path = folder / FILE
        if not path.is_file():
            return
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            before = Plan(**{**values, "runs": [PlannedRun(**run) for run in values["runs"]]})
            held, asked = _terms(before), _terms(self)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ValueError(f"{path}: not the plan of an ablation; choose another run=") from None
        for term in [*held, *asked]:
            old, new = held.get(term, "unchanged"), asked.get(term, "unchanged")
            if old != new:
                raise ValueError(
                    f"{folder} holds an ablation with {term} {old!r}, asked is {new!r}; "
                    "choose another run="
                )
        for run in before.runs:
            if run.state == DONE and not _is_json(folder / str(run.run) / RESULT):
                run.state = PLANNED
        known = {run.run: run for run in before.runs}
        own = {run.run for run in self.runs}
        self.runs = [known.get(run.run, run) for run in self.runs]
        self.runs += [run for run in before.runs if run.run not in own]
        self.blocks = list(dict.fromkeys([*before.blocks, *self.blocks]))
        self.seeds = max(before.seeds, self.seeds)
        self.refused = before.refused | self.refused
        self.matched = before.matched | self.matched


def _terms(plan: Plan) -> dict[str, str]:
    """Return a plan's terms by name; of overrides of one key the last counts, their order does
    not.
    """
    pairs = (pair.partition("=") for pair in plan.overrides)
    return {term: getattr(plan, term) for term in TERMS} | {key: value for key, _, value in pairs}


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
