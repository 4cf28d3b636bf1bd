"""`tacoskip ablate`: train variants of a recipe side by side, then compare them.

All variants of one seed have equal data in equal order, equal initial weights outside the part that
differs (`tacoskip.models.initial`), equal numbers of steps and, with `match`, networks of equal
size.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import closing
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
    request, base = checked(request)
    with folder_lock(base.run) as lock:
        os.set_inheritable(lock, True)  # workers hold the folder until they have ended
        return Ablation(request, base, log, progress).run()


def checked(request: Request) -> tuple[Request, Config]:
    """Return the request and its recipe, see `resolve`; raises as `ablate`, before any work."""
    check_launcher(request.launcher)
    request, base = resolve(request)
    if Path(base.run, "checkpoints").is_dir():
        raise ConfigError(f"{base.run} is the folder of a run; choose another run=")
    if public_dict(base) != to_dict(base):
        raise ConfigError(
            "expected an address without user, password and query, which the folder of an ablation "
            "would keep; put the whole address into TACOSKIP_ADDRESS"
        )
    Ablation(request, base)
    return request, base


class Ablation:
    """The runs of a request in their folder: those of its plan, and those that it lacks."""

    def __init__(
        self, request: Request, base: Config, log: Log = print, progress: Progress | None = None
    ) -> None:
        self.request, self.base, self.folder = request, base, Path(base.run)
        self.log, self.progress = log, progress or (lambda share, note: None)
        self.chosen, refused = variants(request, base)
        self.plan = Plan(
            recipe=request.recipe,
            baseline=request.baseline,
            figure=FIGURE,
            blocks=[variant.name for variant in self.chosen],
            match=base.match,
            overrides=[pair for pair in request.overrides if not pair.startswith("run=")],
            margin=request.margin,
            looks=len(request.schedule),
            refused=refused,
        )
        self.plan.merge(self.folder)

    def run(self) -> Comparison:
        """Execute the runs and compare them; more seeds of the undecided follow."""
        request, plan = self.request, self.plan
        if self.base.match != "none":
            self._match()
        for name, reason in plan.refused.items():
            self.log(f"left out: {name}: {reason}")
        if request.check != "none":
            pair = {request.baseline: request.seeds, STACK_REMOVED: request.seeds}
            self._execute(self._planned(pair))
            self._check_stack()
            if not plan.valid and request.check == "stack":
                self.log("stopped; check=warn goes on all the same")
                return compare(self.folder)
        undecided = [variant.name for variant in self.chosen]
        for seeds in request.schedule:
            of_baseline = request.baseline_seeds or baseline_seeds(seeds, len(plan.blocks) - 1)
            self._planned(dict.fromkeys(undecided, seeds) | {request.baseline: of_baseline})
            self.log(self._power(seeds))
            self._execute(plan.runs)
            comparison = compare(self.folder)
            main = comparison.analyses.get(comparison.main)
            differences = main.differences if main else {}
            undecided = [name for name, one in differences.items() if one.verdict == CANNOT_TELL]
            if not undecided:
                break
            undecided = [request.baseline, *(name for name in undecided if name in plan.blocks)]
        if request.check == "none":
            return comparison
        # All runs together tell the seeds' effects and the noise better.
        self._check_stack()
        return compare(self.folder)

    def _check_stack(self) -> None:
        """Note in the plan whether removing the baseline's stack hurts."""
        plan = self.plan
        plan.valid, plan.check = stack_matters(self.folder, plan.baseline, STACK_REMOVED)
        plan.save(self.folder)
        self.log(f"check of the stack: {plan.check}")

    def _power(self, seeds: int) -> str:
        """Say what so many seeds can find."""
        if seeds < 2:
            return "one seed a variant: no difference can be tested"
        found = detectable(seeds, len(self.chosen) - 1, LEVEL / self.plan.looks)
        text = f"{seeds} seeds find a difference of {found:.1f} sd between runs with power 0.8"
        if margin := self.plan.margin:
            text += f": the margin of {margin:g} % where it is below {margin / found:.2g} %"
        return text

    def _planned(self, wanted: dict[str, int]) -> list[PlannedRun]:
        """Return so many runs of each variant, seed by seed: half an ablation is comparable. Those
        that the plan lacks are added to it.
        """
        known, runs = {run.run: run for run in self.plan.runs}, list[PlannedRun]()
        for number in range(max(wanted.values())):
            for name in (name for name, seeds in wanted.items() if number < seeds):
                seed = self.base.seed + number + (AA_SEEDS if name.endswith(AA) else 0)
                run = f"{name}/seed-{seed}"
                runs.append(known.get(run) or PlannedRun(run, name, seed))
        self.plan.runs += [run for run in runs if run.run not in known]
        return runs

    def _execute(self, runs: list[PlannedRun]) -> None:
        """Execute what remains of runs; the plan has each one's state as soon as it ends."""
        plan, folder, request = self.plan, self.folder, self.request
        by_name = {variant.name: variant for variant in self.chosen}
        runs = [run for run in runs if run.state == PLANNED and run.variant in by_name]
        plan.save(folder)
        for run in runs:
            self._write_request(run, by_name[run.variant])
        self.log(f"{len(plan.runs)} runs, {len(runs)} remain")
        by_path, ended = {folder / run.run: run for run in runs}, 0
        jobs, threads = request.jobs, self.base.train.threads
        where = (request.launcher, list(by_path), jobs, threads, self.log, request.runs_per_job)
        with closing(launch(*where)) as events:
            for path, error in events:
                if path is not None:
                    run = by_path[path]
                    run.state, run.error = (FAILED, error) if error else (DONE, "")
                    plan.save(folder)
                    ended += 1
                    self.log(f"{run.run}: {error or 'done'} ({ended} of {len(runs)})")
                self.progress(ended / len(runs), f"{len(runs) - ended} runs remain")

    def _match(self) -> None:
        """Add to the plan the settings that give each variant the baseline's size; those that
        cannot have it are refused.
        """
        base, plan = self.base, self.plan
        speakers = len(PreparedCorpus.of(base).speakers)
        if base.task == "tts":
            symbols = len(Tokenizer(base.text))
        else:
            symbols = base.asr.bpe_size if base.asr.tokens == "bpe" else len(Characters())
        resized = [one for one in self.chosen if one.resized and one.name not in plan.matched]
        for number, variant in enumerate(resized, 1):
            self.progress(None, f"parameter matching: {variant.name} ({number} of {len(resized)})")
            _, match = match_parameters(
                self._config(variant.overrides),
                lambda config: build_network(config, symbols, speakers),
                self._config(self.chosen[0].overrides),
            )
            within = match.within
            plan.matched[variant.name] = {**vars(match), "percent": match.percent, "within": within}
            if not within:
                what = f"the baseline's {MATCHED[base.match]} by {match.percent:+.1f} %"
                plan.refused[variant.name] = f"misses {what}, not comparable"
        self.chosen = [variant for variant in self.chosen if variant.name not in plan.refused]
        plan.blocks = [name for name in plan.blocks if name not in plan.refused]

    def _config(self, pairs: Iterable[str]) -> Config:
        return load_config(self.request.recipe, [*self.request.overrides, *pairs])

    def _write_request(self, run: PlannedRun, variant: Variant) -> None:
        solved = self.plan.matched.get(run.variant, {}).get("settings", {})
        path = self.folder / run.run
        path.mkdir(parents=True, exist_ok=True)
        pairs = [f"{key}={value}" for key, value in solved.items()]
        config = self._config(
            [*variant.overrides, "match=none", *pairs, f"seed={run.seed}", f"run={path}"]
        )
        write_json(path / REQUEST, to_dict(config))
