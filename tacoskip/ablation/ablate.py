"""`tacoskip ablate`: the same training with one thing changed, many times over.

Equal for all variants of one seed: the data and their order, the first weights of all parts but the
one that changes (`tacoskip.models.initial`), the number of steps, and, with match, the size of the
network.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from tacoskip.ablation.grid import Request, Variant, variants
from tacoskip.ablation.launch import launch
from tacoskip.ablation.plan import DONE, FAILED, Plan, PlannedRun
from tacoskip.ablation.statistics import AA
from tacoskip.ablation.worker import PROGRESS, REQUEST
from tacoskip.config import Config, ConfigError, load_config, to_dict
from tacoskip.data import PreparedCorpus
from tacoskip.run_folder import build_network
from tacoskip.text import Tokenizer
from tacoskip.text.subwords import Characters
from tacoskip.training.parameter_matching import Match, matched

# What every run of an ablation does without; the recipe's `ablation` and the command line may say
# otherwise.
SPARE = ("train.keep=1", "train.sentences=[]")
MATCH = "params"
# Distance of a network that has not yet learnt to speak misleads; its losses do not.
FIGURE = "loss"

Tell = Callable[[float | None, str], None]


def settle(request: Request) -> Config:
    """Complete a request's overrides, in place, and return the recipe under them.

    Raises ConfigError where the recipe or an override is wrong, and where nobody gave a budget.
    """
    recipe = load_config(request.recipe)
    asked = {pair.partition("=")[0] for pair in request.overrides}
    own = dict(recipe.ablation)
    if not {"train.max_steps", "train.max_minutes"} & {*own, *asked}:
        raise ConfigError(
            f"recipe '{request.recipe}' has no budget for an ablation; give train.max_steps=N"
        )
    if "train.max_minutes" not in {*own, *asked}:
        own["train.max_minutes"] = 0  # a budget of steps: the same batches for all
    own.setdefault("match", MATCH)
    own.setdefault("run", f"runs/{recipe.recipe}-ablation")
    pairs = [f"{key}={value}" for key, value in own.items() if key not in asked]
    request.overrides = [*SPARE, *pairs, *request.overrides]
    return load_config(request.recipe, request.overrides)


def ablate(request: Request, base: Config, tell: Tell, say: Callable[[str], None]) -> Path:
    """Carry out an ablation, or go on with it; returns its folder.

    base: of `settle`, its corpus prepared. tell: how much is done, and a note, about once a second.
    say: lines for whoever watches. Raises ValueError when the folder holds another ablation.
    """
    folder = Path(base.run)
    if (folder / "checkpoints").is_dir():
        raise ConfigError(f"{folder} is a run of its own; choose another run=")
    chosen, refused = variants(request, base)
    for name, reason in refused.items():
        say(f"left out: {name}: {reason}")
    plan = _plan(request, base, chosen, refused)
    plan.take_over(folder)
    solved = _match(base, chosen, plan, request, tell, say) if base.match != "none" else {}
    plan.save(folder)
    by_name = {variant.name: variant for variant in chosen}
    todo = [run for run in plan.open if run.variant in by_name]
    for run in todo:
        _write_request(folder, run, by_name[run.variant], solved, request)
    runs = {folder / run.run: run for run in todo}
    say(f"{len(plan.runs) - len(todo)} of {len(plan.runs)} runs are done, {len(todo)} to go")
    began = time.monotonic()
    ended = 0
    jobs, threads = request.jobs, base.train.threads
    with closing(launch(request.launcher, list(runs), jobs, threads, say)) as all_ended:
        for path, error in all_ended:
            if path is not None:
                run = next(one for one in todo if (folder / one.run).resolve() == path.resolve())
                run.state, run.error = (FAILED, error) if error else (DONE, "")
                plan.save(folder)
                ended += 1
                minutes = (time.monotonic() - began) / 60
                say(f"{run.run}: {error or 'done'} ({ended} of {len(todo)}, {minutes:.0f} min)")
            tell(_share(folder, todo), f"{len(todo) - ended} runs to go")
    return folder


def _plan(request: Request, base: Config, chosen: list[Variant], refused: dict[str, str]) -> Plan:
    runs = []
    for number in range(request.seeds):  # seed by seed, so that half an ablation compares as well
        for variant in chosen:
            again = request.seeds if variant.name.endswith(AA) else 0
            seed = base.seed + number + again
            runs.append(PlannedRun(f"{variant.name}/seed-{seed}", variant.name, seed))
    overrides = [pair for pair in request.overrides if not pair.startswith("run=")]
    blocks = [variant.name for variant in chosen]
    return Plan(
        *(request.recipe, request.baseline, FIGURE, blocks, request.seeds, base.match),
        *(overrides, refused),
        runs=runs,
    )


def _symbols(base: Config) -> int:
    if base.task == "tts":
        return len(Tokenizer(base.text))
    return base.asr.bpe_size if base.asr.tokens == "bpe" else len(Characters())


def _match(
    base: Config,
    chosen: list[Variant],
    plan: Plan,
    request: Request,
    tell: Tell,
    say: Callable[[str], None],
) -> dict[str, dict[str, int]]:
    """Return the settings that make each variant cost what the baseline does."""
    corpus = PreparedCorpus.of(base)
    symbols = _symbols(base)
    speakers = len(corpus.speakers)
    baseline = load_config(request.recipe, [*request.overrides, *chosen[0].overrides])
    sized = [variant for variant in chosen if variant.sized]
    for number, variant in enumerate(sized):
        tell(None, f"match {variant.name} ({number + 1} of {len(sized)})")
        if variant.name in plan.matched:
            continue
        config = load_config(request.recipe, [*request.overrides, *variant.overrides])
        _, match = matched(config, lambda one: build_network(one, symbols, speakers), baseline)
        plan.matched[variant.name] = vars(match) | {"percent": match.percent}
    for name, values in plan.matched.items():
        match = Match(**{key: value for key, value in values.items() if key != "percent"})
        if not match.within:
            say(f"{name} misses the baseline's {match.by} by {match.percent:+.1f} %")
    return {name: values["settings"] for name, values in plan.matched.items()}


def _write_request(
    folder: Path,
    run: PlannedRun,
    variant: Variant,
    solved: dict[str, dict[str, int]],
    request: Request,
) -> None:
    config = load_config(
        request.recipe,
        [
            *(*request.overrides, *variant.overrides, "match=none"),
            *(f"{key}={value}" for key, value in solved.get(variant.name, {}).items()),
            *(f"seed={run.seed}", f"run={folder / run.run}"),
        ],
    )
    path = folder / run.run
    path.mkdir(parents=True, exist_ok=True)
    values = {"variant": run.variant, "seed": run.seed, "config": to_dict(config)}
    (path / REQUEST).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _share(folder: Path, todo: list[PlannedRun]) -> float:
    """Return how much of the work is done, 0..1; what has failed counts as over."""

    def parts() -> Iterator[float]:
        for run in todo:
            if run.state in (DONE, FAILED):
                yield 1.0
                continue
            try:
                yield float((folder / run.run / PROGRESS).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                yield 0.0

    return sum(parts()) / max(1, len(todo))
