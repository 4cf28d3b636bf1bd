"""`evaluate`, `ablate` and `compare`: how good a run is, alone and beside others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tacoskip.cli.arguments import (
    Beam,
    Device,
    LanguageModel,
    Run,
    require_run_folder,
    require_runs,
    searching_recognizer,
)
from tacoskip.cli.console import Bar, Result, command, log, table
from tacoskip.cli.training import require_corpus

if TYPE_CHECKING:
    from tacoskip.ablation.compare import Comparison


@command
def evaluate(
    run: Run,
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Clips to measure on.")
    ] = "test",
    limit: Annotated[int, typer.Option(help="At most so many clips; 0: all.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the speech and the intervals.", min=0)] = 0,
    join: Annotated[
        str,
        typer.Option(metavar="LOW-HIGH", help="Join so many clips to one for a recognizer."),
    ] = "",
    beam: Beam = 0,
    lm: LanguageModel = "",
    device: Device = "auto",
    judge: Annotated[
        str,
        typer.Option(
            metavar="RUN|whisper[:SIZE|:FOLDER]", help="A recognizer that transcribes a voice."
        ),
    ] = "",
    mos: Annotated[
        bool, typer.Option("--mos", help="Predict a voice's naturalness, for rank only.")
    ] = False,
) -> Result:
    """Measure a run on clips of its corpus.

    The figures go into RUN/metrics.json as well. A voice synthesizes the texts, and the speech is
    compared with the recordings; with --judge a recognizer transcribes recordings, copy-synthesis,
    teacher-forced and free-running speech. A recognizer transcribes the recordings.
    """
    from tacoskip.evaluation import recognizers, voices
    from tacoskip.run_folder import task_of

    is_voice = task_of(run) == "tts"
    if (judge or mos) and not is_voice:
        raise ValueError("expected --judge and --mos with a voice (task=tts), got a recognizer")
    if is_voice and (join or beam or lm):
        raise ValueError("expected --join, --beam and --lm with a recognizer, got a voice")
    with Bar("evaluate") as bar:
        if is_voice:
            figures = voices.evaluate(run, split, limit, seed, judge, device, mos, bar.show)
        else:
            recognizer, joined = searching_recognizer(run, beam, lm, device), _low_high(join)
            figures = recognizers.evaluate(recognizer, run, split, limit, seed, joined, bar.show)
    for clip in figures.get("warnings", []):
        log(f"{clip['id']}: {'; '.join(clip['warnings'])}", warning=True)
    found, wrap = (voices if is_voice else recognizers).tables(figures), ("reference", "transcript")
    return Result(figures, [table(columns, rows, wrap=wrap) for columns, rows in found])


@command
def ablate(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="recipe=NAME blocks=A,B seeds=3 KEY=VALUE",
            help="What to vary, and what to change in the recipe for all runs.",
            show_default=False,
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only say how far it is; run=FOLDER is enough.")
    ] = False,
) -> Result:
    """Train variants of a recipe side by side, then compare them.

    Run again to resume; Ctrl-C saves first. What varies: blocks=A,B or all, skips=, topologies=,
    depths=, without=bank,stack,gru,residual (parts of CBHG taken out of the baseline). seeds=3:
    runs of each (3..12: more for the undecided). baseline=highway: what the others are compared
    with, with baseline_seeds=auto runs. margin=2: percent that count as no difference. aa=highway:
    blocks that run again with other seeds (none: no such runs). match=params: stacks as wide
    as makes the networks equal in size (or macs, stack: the stacks alone, or none). check=stack:
    first test whether removing the stack hurts, and stop unless it does (warn: go on).
    start=identity: begin near the identity. launcher=local, ray or slurm. jobs=N: runs at once.
    runs_per_job=N: runs in a job of Slurm. run=FOLDER: where they go.

    All variants of a seed train on the same batches, with equal initial weights outside the block.
    A run that fails is recorded and the others continue; the exit code is 1 where none is done.
    """
    from tacoskip.ablation.request import folder_of, parse_request

    if status:
        from tacoskip.ablation import status as state

        folder = folder_of(settings or [])
        require_runs(str(folder))
        values, tables = state.status(folder)
        log(f"{folder}: {state.summary(values)}")
        return Result(values, tables)
    request = parse_request(settings or [])
    from tacoskip.ablation.ablate import ablate as run_all
    from tacoskip.ablation.ablate import checked

    request, base = checked(request)  # refused before any download
    require_run_folder(base.run)
    require_corpus(base)
    with Bar("ablate") as bar:
        comparison = run_all(request, log, bar.show)
    result = _report(comparison)
    refused = request.check == "stack" and not comparison.valid
    result.failed = refused or not comparison.main
    return result


@command
def compare(
    runs: Annotated[Path, typer.Argument(metavar="RUNS_DIR", help="A folder of runs.")],
    baseline: Annotated[str, typer.Option(help="Variant that the others are compared with.")] = "",
    figure: Annotated[str, typer.Option(help="The figure to sort by.")] = "",
) -> Result:
    """Compare the runs of a folder, block by block.

    Prints means, differences with simultaneous intervals, and a verdict in words. Writes
    RUNS_DIR/report.html. `tacoskip board RUNS_DIR` shows curves.
    """
    from tacoskip.ablation.compare import compare as compare_runs

    require_runs(str(runs))
    return _report(compare_runs(runs, baseline or None, figure or None))


def _low_high(text: str) -> tuple[int, int]:
    """Read "3-7", or "3" for "3-3"; "" is one clip at a time."""
    low, dash, high = text.partition("-")
    try:
        bounds = (int(low), int(high) if dash else int(low)) if text else (1, 1)
    except ValueError:
        bounds = (0, 0)
    if not 1 <= bounds[0] <= bounds[1]:
        raise ValueError(f"expected --join LOW-HIGH, such as 3-7, got '{text}'")
    return bounds


def _report(comparison: "Comparison") -> Result:
    """Write the report of a comparison."""
    from tacoskip.ablation.report import write_report
    from tacoskip.ablation.tables import overview

    report = write_report(comparison, comparison.folder / "report.html")
    for warning in comparison.warnings:
        log(warning, warning=True)
    for line in comparison.left_out:
        log(f"left out: {line}")
    log(f"wrote {report}")
    return Result(comparison.to_json(), [overview(comparison)])
