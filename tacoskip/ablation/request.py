"""What an ablation varies: its arguments, the axes they span, and the variants on those axes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from tacoskip.ablation.statistics import AA
from tacoskip.blocks import BLOCKS, SKIPS, TOPOLOGIES
from tacoskip.blocks.external import is_external
from tacoskip.config import PARTS, Config, load_config
from tacoskip.config_checks import ConfigError, field_kinds
from tacoskip.messages import nearest

MOST = 1000  # of seeds, jobs or percent: more is a slip
# Arguments that take one of a few values.
CHOICES = {
    "launcher": ("local", "ray", "slurm"),
    "check": ("none", "stack", "warn"),
    "start": ("paper", "identity"),
}
# The baseline without its stack, which `check=` trains first.
STACK_REMOVED = "without-stack"
# Overrides that apply to every run, unless the recipe or the request sets them.
DEFAULTS: dict[str, Any] = {"train.keep": 1, "train.sentences": [], "match": "params"}
# Settings of a run that are axes here: setting -> argument.
AXES = {
    **{"block": "blocks", "skip": "skips", "topology": "topologies"},
    **{"depth": "depths", "seed": "seeds"},
}


@dataclass(frozen=True)
class Variant:
    """A variant: its name and its overrides of the recipe.

    resized: whether parameter matching may change the width of its stack.
    """

    name: str
    overrides: tuple[str, ...] = ()
    resized: bool = True


@dataclass
class Request:
    """The arguments of an ablation.

    Attributes:
        recipe: name or file of the recipe that all runs train.
        blocks: families to compare; ["all"] is every family. The baseline need not be named.
        skips, topologies, depths: further axes, multiplied with `blocks`. Empty: as in the recipe.
        without: parts of CBHG to remove from the baseline, one a variant: bank, stack, gru,
            residual.
        seeds: runs of each variant.
        most_seeds: where more than `seeds`, variants that remain undecided get up to so many.
        baseline: the family that the others are compared with.
        baseline_seeds: runs of the baseline. 0: `seeds` times the root of the number of others.
        margin: a difference of this share of the baseline's mean counts as none, in %.
        aa: families that run again with other seeds (the A/A check). None: the baseline.
        check: stack: first compare the baseline with the same network without its stack, and stop
            unless removing it hurts beyond the margin; warn: the same, and go on; none.
        start: paper: stacks start as published; identity: as near the identity as each family's
            own means allow (`tacoskip.blocks.start`).
        launcher: where the runs are executed: local, ray or slurm.
        jobs: runs at a time. 0: as many as there is room for.
        runs_per_job: runs that follow one another in a job of Slurm.
        overrides: `key=value` settings of all runs.

    Raises:
        ConfigError: in one line, for an unknown name or a number out of range.
    """

    recipe: str
    blocks: list[str]
    skips: list[str] = field(default_factory=list)
    topologies: list[str] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    seeds: int = 3
    most_seeds: int = 0
    baseline: str = "highway"
    baseline_seeds: int = 0
    margin: float = 2.0
    aa: list[str] | None = None
    check: str = "none"
    start: str = "paper"
    launcher: str = "local"
    jobs: int = 0
    runs_per_job: int = 1
    overrides: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.blocks = list(BLOCKS) if self.blocks == ["all"] else self.blocks
        self.aa = [self.baseline] if self.aa is None else self.aa
        _check_known("block", [*self.blocks, self.baseline, *self.aa], BLOCKS)
        _check_known("skip", self.skips, SKIPS)
        _check_known("topology", self.topologies, TOPOLOGIES)
        _check_known("part", self.without, PARTS)
        for key, choices in CHOICES.items():
            _check_known(key, [getattr(self, key)], choices)
        if self.check == "stack" and self.seeds == 1:
            raise ConfigError("check=stack needs seeds=2 or more: one seed has no spread, got 1")
        if self.check != "none":
            self.without = list(dict.fromkeys(["stack", *self.without]))
        least = {"seeds": 1, "most_seeds": 0, "jobs": 0, "baseline_seeds": 0, "margin": 0}
        least["runs_per_job"] = 1
        for key, bound in least.items():
            if not bound <= (value := getattr(self, key)) <= MOST:  # false for NaN too
                raise ConfigError(f"expected {key} of {bound} to {MOST}, got {value}")
        if 0 < self.most_seeds < self.seeds:
            raise ConfigError(f"expected seeds=LEAST..MOST, got {self.seeds}..{self.most_seeds}")
        if self.runs_per_job > 1 and self.launcher != "slurm":
            raise ConfigError(
                f"runs_per_job={self.runs_per_job} needs launcher=slurm, got {self.launcher}"
            )

    @property
    def schedule(self) -> list[int]:
        """The seeds of a variant at each look: twice as many as before, up to most_seeds."""
        looks = [self.seeds]
        while looks[-1] < self.most_seeds:
            looks.append(min(2 * looks[-1], self.most_seeds))
        return looks


def parse_request(pairs: Sequence[str]) -> Request:
    """Read `recipe=R blocks=a,b skips=... seeds=3 key=value ...`.

    Raises ConfigError, in one line, for what is missing, given twice, unknown or not a number.
    """
    arguments: dict[str, Any] = {}
    overrides = []
    names = {one.name: one.type for one in fields(Request) if one.name != "overrides"}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key in arguments:
            raise ConfigError(f"expected {key}= once, got it twice")
        if key in names:
            if key == "seeds" and ".." in value:  # 3..12
                value, _, most = value.partition("..")
                arguments["most_seeds"] = _number(key, most, int)
            auto = key == "baseline_seeds" and value == "auto"
            arguments[key] = 0 if auto else _value(key, value, names[key])
        elif key in AXES:
            raise ConfigError(f"'{key}' varies in an ablation; use {AXES[key]}={value}")
        else:
            if key not in field_kinds(Config) and (near := nearest(key, names, cutoff=0.7)):
                raise ConfigError(f"unknown key '{key}'{near}")
            overrides.append(pair)
    for key, example in (("recipe", "fsdd"), ("blocks", "plain,residual (or all)")):
        if not arguments.get(key):
            raise ConfigError(f"expected {key}=..., e.g. {key}={example}")
    return Request(**arguments, overrides=overrides)


def folder_of(pairs: Sequence[str]) -> Path:
    """Return the folder of an ablation: run=FOLDER, or that of a whole request."""
    named = [pair.removeprefix("run=") for pair in pairs if pair.startswith("run=")]
    if not named and not any(pair.startswith("recipe=") for pair in pairs):
        raise ConfigError(f"expected run=FOLDER with --status, got {' '.join(pairs) or 'none'}")
    return Path(named[-1] if named else resolve(parse_request(pairs))[1].run)


def resolve(request: Request) -> tuple[Request, Config]:
    """Return the request with all its overrides spelled out, and the recipe under them.

    Raises ConfigError where the recipe or an override is wrong, or neither sets a budget.
    """
    recipe = load_config(request.recipe)
    keys = {pair.partition("=")[0] for pair in request.overrides}
    defaults = {**DEFAULTS, "run": f"runs/{recipe.recipe}-ablation", **recipe.ablation}
    if not {"train.max_steps", "train.max_minutes"} & {*recipe.ablation, *keys}:
        raise ConfigError(
            f"recipe '{request.recipe}' has no budget for an ablation; give train.max_steps=N"
        )
    if request.start != "paper":
        defaults["block_options.start"] = request.start
    defaults.setdefault("train.max_minutes", 0)  # a budget of steps: the same batches for all
    pairs = [f"{key}={value}" for key, value in defaults.items() if key not in keys]
    request = replace(request, overrides=[*pairs, *request.overrides])
    return request, load_config(request.recipe, request.overrides)


def variants(request: Request, base: Config) -> tuple[list[Variant], dict[str, str]]:
    """Return the variants, the baseline first, and the combinations that do not fit together, each
    with the reason.

    base: the recipe with the request's overrides. Raises ConfigError where nothing is left to
    compare.
    """
    chosen = [Variant(request.baseline, (f"block={request.baseline}",))]
    refused: dict[str, str] = {}
    for point in product(
        request.blocks,
        request.skips or [""],
        request.topologies or [""],
        request.depths or [base.cbhg.depth],
    ):
        variant = _variant(*point, base)
        if variant in chosen:
            continue
        try:
            load_config(request.recipe, [*request.overrides, *variant.overrides])
        except ConfigError as error:
            refused[variant.name] = str(error)
        else:
            chosen.append(variant)
    for part in request.without:
        overrides = (*chosen[0].overrides, f"without=[{part}]")
        chosen.append(Variant(f"without-{part}", overrides, resized=False))
    repeated = request.aa or []
    for block in repeated:
        original = next((one for one in chosen if one.name == block), None)
        if original is None:
            raise ConfigError(f"aa={block}: expected a block that is among blocks=")
        chosen.append(replace(original, name=block + AA))
    if len(chosen) == 1 + len(repeated):
        only = "nothing to compare: blocks= names only the baseline"
        raise ConfigError(next(iter(refused.values()), only))
    return chosen, refused


def _variant(block: str, skip: str, topology: str, depth: int, base: Config) -> Variant:
    pairs = [f"{key}={value}" for key, value in (("skip", skip), ("topology", topology)) if value]
    name, overrides = [block, *pairs], [f"block={block}", *pairs]
    if depth != base.cbhg.depth:
        name.append(f"depth={depth}")
        overrides.append(f"cbhg.depth={depth}")
        overrides += [f"postnet.depth={depth}"] if base.task == "tts" else []
    return Variant(",".join(name), tuple(overrides))


def _value(key: str, text: str, kind: Any) -> Any:
    if kind in (str, int, float):
        return _number(key, text, kind)
    names = list(dict.fromkeys(name.strip() for name in text.strip("[] ").split(",")))
    names = [] if names in ([""], ["none"]) else names
    return [_number(key, name, int) for name in names] if kind == list[int] else names


def _number(key: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"expected {key} as {what}, got '{text}'") from None


def _check_known(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known and not (kind == "block" and is_external(name)):
            listed = ", ".join(known)
            raise ConfigError(f"unknown {kind} '{name}'{nearest(name, known)} (known: {listed})")
