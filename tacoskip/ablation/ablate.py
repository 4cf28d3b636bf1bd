"""`tacoskip ablate`: train variants of a recipe side by side, then compare them.

All variants of one seed have equal data in equal order, equal initial weights outside the part that
differs (`tacoskip.models.initial`), equal numbers of steps and, with `match`, networks of equal
size.
"""

import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from tacoskip.ablation.compare import Comparison, compare, stack_matters
from tacoskip.ablation.launchers import check_launcher, launch
from tacoskip.ablation.plan import DONE, FAILED, PLANNED, Plan, PlannedRun, write_json
from tacoskip.ablation.power import LEVEL, baseline_seeds, detectable
from tacoskip.ablation.request import STACK_REMOVED, Request, Variant, resolve, variants
from tacoskip.ablation.statistics import AA, CANNOT_TELL
from tacoskip.ablation.worker import REQUEST
from tacoskip.config import Config, load_config, public_dict, to_dict
from tacoskip.config_checks import ConfigError
from tacoskip.data.prepared import PreparedCorpus
from tacoskip.files import folder_lock
from tacoskip.run_folder import build_network
from tacoskip.text import Tokenizer
from tacoskip.text.subwords import Characters
from tacoskip.training.parameter_matching import match_parameters

# The main figure. A voice after so few steps hardly speaks, so distances of its speech mislead.
FIGURE = "loss"
# What `match` makes equal.
MATCHED = {"stack": "stack", "params": "parameters", "macs": "multiply-adds"}
# Between the seeds of an A/A variant and the baseline's, however many these become.
AA_SEEDS = 1000

Log = Callable[[str], None]
Progress = Callable[[float | None, str], None]


def ablate(request: Request, log: Log = print, progress: Progress | None = None) -> Comparison:
    """Train all variants with all seeds, or resume that, and compare the runs.

    The corpus of the recipe must be prepared.

    Args:
        request: what varies, and the settings of all runs.
        log: receives one line per event.
        progress: receives the share of the work that is done, 0..1 or None, and a note, about once
            a second.

    Raises:
        ConfigError: the request cannot be met.
        ValueError: the folder holds another ablation, or the launcher is not available.
    """
    check_launcher(request.launcher)
    request, base = resolve(request)
    progress = progress or (lambda share, note: None)
    folder = Path(base.run)
    if (folder / "checkpoints").is_dir():
        raise ConfigError(f"{folder} is the folder of a run; choose another run=")
    if public_dict(base) != to_dict(base):
        raise ConfigError(
            "expected an address without user, password and query, which the folder of an ablation "
            "would keep; put the whole address into TACOSKIP_ADDRESS"
        )
    with folder_lock(folder) as lock:
        os.set_inheritable(lock, True)  # workers hold the folder until they have ended
        return _ablate(request, base, folder, log, progress)


def _ablate(
    request: Request, base: Config, folder: Path, log: Log, progress: Progress
) -> Comparison:
    """Do what `ablate` says in a folder that is locked."""
    chosen, refused = variants(request, base)
    plan = Plan(
        recipe=request.recipe,
        baseline=request.baseline,
        figure=FIGURE,
        blocks=[variant.name for variant in chosen],
        match=base.match,
        overrides=[pair for pair in request.overrides if not pair.startswith("run=")],
        margin=request.margin,
        looks=len(request.schedule),
        refused=refused,
    )
    plan.merge(folder)
    if base.match != "none":
        _match(base, chosen, plan, request, progress)
        chosen = [variant for variant in chosen if variant.name not in plan.refused]
        plan.blocks = [name for name in plan.blocks if name not in plan.refused]
    for name, reason in plan.refused.items():
        log(f"left out: {name}: {reason}")
    execute = partial(_execute, plan, folder=folder, request=request, log=log, progress=progress)
    if request.check != "none":
        pair = {request.baseline: request.seeds, STACK_REMOVED: request.seeds}
        _add_runs(plan, base.seed, pair)
        execute([variant for variant in chosen if variant.name in pair], base.train.threads)
        _check_stack(plan, folder, log)
        if not plan.valid and request.check == "stack":
            log("stopped; check=warn goes on all the same")
            return compare(folder)
    undecided = [variant.name for variant in chosen]
    for seeds in request.schedule:
        of_baseline = request.baseline_seeds or baseline_seeds(seeds, len(plan.blocks) - 1)
        wanted = {name: of_baseline if name == request.baseline else seeds for name in undecided}
        _add_runs(plan, base.seed, wanted)
        log(_power(seeds, len(chosen) - 1, plan))
        execute(chosen, base.train.threads)
        comparison = compare(folder)
        differences = comparison.analyses[comparison.main].differences if comparison.main else {}
        undecided = [name for name, one in differences.items() if one.verdict == CANNOT_TELL]
        if not undecided:
            break
        undecided = [request.baseline, *(name for name in undecided if name in plan.blocks)]
    if request.check == "none":
        return comparison
    # All runs together tell the seeds' effects and the noise better.
    _check_stack(plan, folder, log)
    return compare(folder)


def _check_stack(plan: Plan, folder: Path, log: Log) -> None:
    """Note in the plan whether removing the baseline's stack hurts."""
    plan.valid, plan.check = stack_matters(folder, plan.baseline, STACK_REMOVED)
    plan.save(folder)
    log(f"check of the stack: {plan.check}")


def _power(seeds: int, others: int, plan: Plan) -> str:
    """Say what so many seeds can find."""
    if seeds < 2:
        return "one seed a variant: no difference can be tested"
    found = detectable(seeds, others, LEVEL / plan.looks)
    text = f"{seeds} seeds find a difference of {found:.1f} sd between runs with power 0.8"
    if plan.margin:
        text += f": the margin of {plan.margin:g} % where it is below {plan.margin / found:.2g} %"
    return text


def _add_runs(plan: Plan, first: int, wanted: dict[str, int]) -> None:
    """Add what variants lack of so many runs, seed by seed: half an ablation is comparable."""
    known = {run.run for run in plan.runs}
    for number in range(max(wanted.values())):
        for name in (name for name, seeds in wanted.items() if number < seeds):
            seed = first + number + (AA_SEEDS if name.endswith(AA) else 0)
            run = PlannedRun(f"{name}/seed-{seed}", name, seed)
            if run.run not in known:
                plan.runs.append(run)


def _execute(
    plan: Plan,
    chosen: list[Variant],
    threads: int,
    folder: Path,
    request: Request,
    log: Log,
    progress: Progress,
) -> None:
    """Execute the runs; the plan has each one's state as soon as it ends."""
    by_name = {variant.name: variant for variant in chosen}
    runs = [run for run in plan.runs if run.state == PLANNED and run.variant in by_name]
    plan.save(folder)
    for run in runs:
        _write_request(folder, run, by_name[run.variant], plan, request)
    log(f"{len(plan.runs)} runs, {len(runs)} remain")
    by_path = {folder / run.run: run for run in runs}
    ended = 0
    where = (request.launcher, list(by_path), request.jobs, threads, log, request.runs_per_job)
    with closing(launch(*where)) as events:
        for path, error in events:
            if path is not None:
                run = by_path[path]
                run.state, run.error = (FAILED, error) if error else (DONE, "")
                plan.save(folder)
                ended += 1
                log(f"{run.run}: {error or 'done'} ({ended} of {len(runs)})")
            progress(ended / len(runs), f"{len(runs) - ended} runs remain")


def _match(
    base: Config, chosen: list[Variant], plan: Plan, request: Request, progress: Progress
) -> None:
    """Add to the plan the settings that give each variant the baseline's size; those that cannot
    have it are refused.
    """
    speakers = len(PreparedCorpus.of(base).speakers)
    if base.task == "tts":
        symbols = len(Tokenizer(base.text))
    else:
        symbols = base.asr.bpe_size if base.asr.tokens == "bpe" else len(Characters())

    def config_of(variant: Variant) -> Config:
        return load_config(request.recipe, [*request.overrides, *variant.overrides])

    resized = [one for one in chosen if one.resized and one.name not in plan.matched]
    for number, variant in enumerate(resized, 1):
        progress(None, f"parameter matching: {variant.name} ({number} of {len(resized)})")
        _, match = match_parameters(
            config_of(variant),
            lambda config: build_network(config, symbols, speakers),
            config_of(chosen[0]),
        )
        outcome = {"percent": match.percent, "within": match.within}
        plan.matched[variant.name] = vars(match) | outcome
        if not match.within:
            what = f"the baseline's {MATCHED[base.match]} by {match.percent:+.1f} %"
            plan.refused[variant.name] = f"misses {what}, not comparable"


def _write_request(
    folder: Path, run: PlannedRun, variant: Variant, plan: Plan, request: Request
) -> None:
    solved = plan.matched.get(run.variant, {}).get("settings", {})
    pairs = [
        *(*request.overrides, *variant.overrides, "match=none"),
        *(f"{key}={value}" for key, value in solved.items()),
        *(f"seed={run.seed}", f"run={folder / run.run}"),
    ]
    (folder / run.run).mkdir(parents=True, exist_ok=True)
    write_json(folder / run.run / REQUEST, to_dict(load_config(request.recipe, pairs)))
