"""ablation.json: the runs of an ablation, and the state of each. It makes an ablation resumable."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tacoskip.files import read_regular, write_whole

PLANNED, DONE, FAILED = "planned", "done", "failed"
FILE, RESULT = "ablation.json", "result.json"
JSON_BYTES = 50_000_000

# Figures of `tacoskip.evaluation.voices.RUNGS`: word errors by a judge.
LADDER = ("wer_recording", "wer_copy_synthesis", "wer_teacher_forced", "wer_by_asr")
# What must be equal, besides the overrides, for runs to be comparable.
TERMS = ("recipe", "baseline", "match", "margin", "looks")


@dataclass
class PlannedRun:
    """One run. run: its folder within the ablation's. error: why it failed, in one line."""

    run: str
    variant: str
    seed: int
    state: str = PLANNED
    error: str = ""


@dataclass
class Plan:
    """The content of ablation.json.

    margin: a difference of this share of the baseline's mean counts as none, in %. looks: how often
    verdicts are looked at while seeds are added. refused: combinations that do not fit together,
    with the reason. matched: by variant, a `tacoskip.training.parameter_matching.ParameterMatch` as
    a dict. check: whether removing the stack hurts, in words; valid: it does, or was not asked for.
    """

    recipe: str
    baseline: str
    figure: str
    blocks: list[str]
    match: str
    overrides: list[str]
    margin: float = 0.0
    looks: int = 1
    refused: dict[str, str] = field(default_factory=dict)
    matched: dict[str, dict[str, Any]] = field(default_factory=dict)
    check: str = ""
    valid: bool = True
    runs: list[PlannedRun] = field(default_factory=list)

    @classmethod
    def load(cls, folder: Path) -> "Plan | None":
        """Read the plan of a folder; None where there is none.

        Raises ValueError for a file that is not a plan, and for runs outside the folder.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            values = json.loads(read_regular(path, JSON_BYTES))
            runs = [PlannedRun(**{**run, "seed": int(run["seed"])}) for run in values["runs"]]
            plan = cls(**{**values, "runs": runs})
            plan._check()
            for target in [(folder / run.run).resolve() for run in runs]:
                if not target.is_relative_to(folder.resolve()):
                    raise ValueError(f"expected runs inside the folder, got {target}")
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: expected the plan of an ablation ({error})") from None
        return plan

    def _check(self) -> None:
        texts = [self.recipe, self.baseline, self.figure, self.match, *self.blocks, *self.overrides]
        for one in self.runs:
            texts += [one.run, one.variant, one.state, one.error]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a name is no text")
        if not (0 <= self.margin <= 1000 and 1 <= self.looks <= 100):
            raise ValueError("a margin or looks out of bounds")

    @property
    def terms(self) -> dict[str, str]:
        """Everything that must be equal for runs to be comparable, by name.

        Of several overrides of a key the last counts; their order does not.
        """
        pairs = (pair.partition("=") for pair in self.overrides)
        own = {term: str(getattr(self, term)) for term in TERMS}
        return own | {key: value for key, _, value in pairs}

    def save(self, folder: Path) -> None:
        """Write the plan atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, asdict(self))

    def merge(self, folder: Path) -> None:
        """Take over the runs of an earlier plan of the folder, and their state.

        A run is done while its result is there; one that failed is planned again. Raises ValueError
        when the earlier runs were made under other terms.
        """
        earlier = Plan.load(folder)
        if earlier is None:
            return
        for term in [*earlier.terms, *self.terms]:
            old, new = (plan.terms.get(term, "unchanged") for plan in (earlier, self))
            if old != new:
                raise ValueError(
                    f"{folder} holds an ablation with {term} {old!r}, got {new!r}; "
                    "choose another run="
                )
        for run in earlier.runs:
            if run.state == FAILED or not (folder / run.run / RESULT).is_file():
                run.state, run.error = PLANNED, ""
        self.runs = earlier.runs
        self.blocks = list(dict.fromkeys([*earlier.blocks, *self.blocks]))
        self.refused = earlier.refused | self.refused
        self.matched = earlier.matched | self.matched
        self.check, self.valid = earlier.check, earlier.valid


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_whole(path, json.dumps(values, indent=1) + "\n")
